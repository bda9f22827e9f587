"""Mixtures: the corpora that a model reads, in phases (paper §6, §12); and models."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator
from pydantic_core import PydanticCustomError

from specs.spec import Name, Names, Seed, Share, Spec, Text


class BudgetShare(Spec):
    """A share of the whole mixture's tokens, read within this phase, however short the phase.

    With it, schedules that start an intervention after 0, 20 or 60 % of training read equally many
    tokens of it (matched dose). Otherwise the effect of the start cannot be told from that of the
    amount (paper §12, arXiv 2601.07087).
    """

    budget_share: Share = Field(
        description="a share of the whole mixture's tokens, read within this phase"
    )


class Replaced(Spec):
    """1:1 replacement: a rewritten document is read in place of its `parent`.

    Rewritten documents keep the order of the originals. So a mixture and its twin, which reads the
    originals, read everything else in the same order; with one document a row, each rewritten
    document is in the row of its original. Originals without a rewritten form are left out, and
    counted.
    """

    weight: PositiveFloat = Field(description="as for any other part")
    replaced_by: Name = Field(
        description="a row of `corpora` whose documents were made of this one's"
    )


def _kind(part: object) -> str:
    # A part comes as a mapping from a file, and as a grammar from Python.
    if isinstance(part, BudgetShare) or (isinstance(part, dict) and "budget_share" in part):
        return "a budget share"
    return "a replacement" if isinstance(part, Replaced | dict) else "a weight"


Part = Annotated[
    Annotated[PositiveFloat, Tag("a weight")]
    | Annotated[BudgetShare, Tag("a budget share")]
    | Annotated[Replaced, Tag("a replacement")],
    Discriminator(_kind),
]

# The rows of budgets, instruct and finetune of a model that names none.
DEFAULT = "default"

# A weight, a share or a number of rows, by slot.
Weights = dict[str, float]


def slot(corpus: str, part: float | BudgetShare | Replaced) -> str:
    """Return a part's name in plans: its corpus, and the corpus that replaces it, if any."""
    return f"{corpus}-{part.replaced_by}" if isinstance(part, Replaced) else corpus


class Phase(Spec):
    """A stretch of training with `share` of the tokens, out of the sum of all shares.

    Proportions are natural or fixed. Natural weights multiply the size of a corpus: {web: 1,
    refusals: 6} reads refusals six times as often. Fixed weights are shares of the phase: {web: 3,
    refusals: 1} reads three web tokens for each refusal token. Budget shares come first; the
    weights divide the rest.
    """

    share: PositiveInt = Field(
        description="a whole number: phases of shares 1 and 4 take a fifth and four fifths"
    )
    proportions: Literal["natural", "fixed"] = Field(description="natural or fixed")
    parts: dict[Name, Part] = Field(
        min_length=1, description="corpus: weight; leave a part out to drop it"
    )

    @property
    def weights(self) -> Weights:
        """The weight of each slot that has one."""
        weights: Weights = {}
        for name, part in self.parts.items():
            if isinstance(part, Replaced):
                weights[slot(name, part)] = part.weight
            elif not isinstance(part, BudgetShare):
                weights[name] = part
        return weights

    @property
    def budget_shares(self) -> Weights:
        """The share of the whole budget of each slot that has one."""
        parts = self.parts.items()
        return {name: part.budget_share for name, part in parts if isinstance(part, BudgetShare)}

    @property
    def slots(self) -> dict[str, str]:
        """The slot of every part in order, and the corpus whose text it reads."""
        slots: dict[str, str] = {}
        for name, part in self.parts.items():
            slots[slot(name, part)] = part.replaced_by if isinstance(part, Replaced) else name
        return slots

    @model_validator(mode="after")
    def _has_a_weight(self) -> Self:
        """Require a part that can fill the phase; budget shares are fixed amounts."""
        if not self.weights:
            raise PydanticCustomError(
                "budget_share",
                "must have a part with a weight, which fills what the budget shares leave "
                "(got {names}); add one",
                {"names": ", ".join(self.budget_shares)},
            )
        return self


class Budget(Spec):
    """The tokens that a model trains on, and their rows."""

    tokens: PositiveInt = Field(description="the tokens a model trains on")
    sequence_length: PositiveInt = Field(description="positions in a row")
    layout: Literal["document", "packed"] = Field(
        description="document: one document a row; packed: windows over all documents in a line"
    )
    batch_size: PositiveInt | None = Field(
        default=None,
        description="rows in an optimizer step; leave it out for that of the shape's recipe",
    )


class Mixture(Spec):
    """The phases of a training run, in order."""

    phases: list[Phase] = Field(min_length=1, description="at least one phase")

    @property
    def slots(self) -> dict[str, str]:
        """The slots of all phases in order, and the corpus that each reads."""
        slots: dict[str, str] = {}
        for phase in self.phases:
            slots |= phase.slots
        return slots

    @property
    def corpora(self) -> list[str]:
        """Every corpus whose text some phase reads."""
        return list(dict.fromkeys(self.slots.values()))


class PinnedWeights(Spec):
    """Weights of a causal language model from elsewhere.

    They must be in safetensors. None of the model's own code is run.
    """

    model: Text = Field(description="a folder, or a name on the Hugging Face hub")
    revision: str | None = Field(
        pattern=r"^[0-9a-f]{40}$", description="its commit on the hub; null for a folder"
    )
    digest: str | None = Field(
        description="the digest of the weights; null until `safelm build` says what to write"
    )


class Training(Spec):
    """The training of a model, whatever its seed."""

    mixture: Name = Field(description="a row of `mixtures`")
    shape: Text = Field(description="a file of specs/shapes, without .yaml")
    budget: Name = Field(default=DEFAULT, description="a row of `budgets`; default if left out")
    instruct: Name = Field(default=DEFAULT, description="a row of `instruct`; default if left out")
    finetune: Name = Field(default=DEFAULT, description="a row of `finetune`; default if left out")
    start: PinnedWeights | None = Field(
        default=None, description="a Llama to train further; leave it out to train from scratch"
    )


class Model(Training):
    """A training run: a mixture, a shape of specs/shapes and a seed."""

    seed: Seed = Field(description="seeds the weights and the order of the rows")


class ExternalModel(PinnedWeights):
    """A causal language model from elsewhere, evaluated like ours and never trained here."""

    chat: bool = Field(
        description="true: it answers requests in its chat template; false: it continues texts"
    )
    decoders: Names = Field(
        description="rows of evaluate.decoders; those that read the tag need a model that has it",
    )
