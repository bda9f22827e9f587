"""A mixture: what a model reads, in which order and in which proportions (paper §6 and §12)."""

from typing import Annotated, Literal, Self

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag, model_validator
from pydantic_core import PydanticCustomError

from specs.spec import Name, Share, Spec


class BudgetShare(Spec):
    """`budget_share` of the tokens of the whole mixture, all within this phase, whatever the phase's own
    share.

    So schedules that start an intervention after 0, 20 or 60 % of training read the same tokens of
    it (matched dose): without it the start cannot be told from the amount (paper §12, arXiv
    2601.07087)."""

    budget_share: Share = Field(
        description="a share of the whole mixture's tokens, read within this phase"
    )


class Replaced(Spec):
    """1:1 replacement: in place of each document what was made of it is read, found by its
    `parent`.

    The documents keep the order of those that they replace, so a mixture and its twin, which reads
    these as they are, read all else in the same order; where each row is a document, what was made
    of it stands in its very place. A document of which nothing was made is left out, and counted.
    """

    weight: PositiveFloat = Field(description="as for any other part")
    replaced_by: Name = Field(
        description="a row of `corpora` whose documents were made of this one's"
    )


def _kind(part: object) -> str:
    if isinstance(part, dict):
        return "a budget share" if "budget_share" in part else "a replacement"
    return (
        "a budget share"
        if isinstance(part, BudgetShare)
        else "a replacement"
        if isinstance(part, Replaced)
        else "a weight"
    )


Part = Annotated[
    Annotated[PositiveFloat, Tag("a weight")]
    | Annotated[BudgetShare, Tag("a budget share")]
    | Annotated[Replaced, Tag("a replacement")],
    Discriminator(_kind),
]


def slot(corpus: str, part: float | BudgetShare | Replaced) -> str:
    """What plans call a part: its corpus, and where it is replaced the corpus that is read in its
    place.
    """
    return f"{corpus}-{part.replaced_by}" if isinstance(part, Replaced) else corpus


class Phase(Spec):
    """A stretch of training: `share` of the tokens, as parts of the sum of all shares.

    natural: each corpus weighs its own tokens times its part, so {web: 1, refusals: 6} reads
    refusals six times as often. fixed: the parts are shares of the phase, so {web: 3, refusals: 1}
    reads three web tokens for each refusal token. Budget shares are taken out first; the weights
    divide what they leave."""

    share: PositiveInt = Field(
        description="a whole number: phases of shares 1 and 4 take a fifth and four fifths"
    )
    proportions: Literal["natural", "fixed"] = Field(description="natural or fixed")
    parts: dict[Name, Part] = Field(
        min_length=1, description="corpus: weight; leave a part out to drop it"
    )

    @property
    def weights(self) -> dict[str, float]:
        """The weight of each slot that has one."""
        parts = self.parts.items()
        return {
            slot(name, part): part.weight if isinstance(part, Replaced) else part
            for name, part in parts
            if not isinstance(part, BudgetShare)
        }

    @property
    def budget_shares(self) -> dict[str, float]:
        """The share of the whole budget of each slot that has one."""
        return {
            name: part.budget_share
            for name, part in self.parts.items()
            if isinstance(part, BudgetShare)
        }

    @property
    def slots(self) -> dict[str, str]:
        """Every part, in order, and the corpus whose text it reads."""
        return {
            slot(name, part): part.replaced_by if isinstance(part, Replaced) else name
            for name, part in self.parts.items()
        }

    @model_validator(mode="after")
    def something_fills_the_phase(self) -> Self:
        """Budget shares are fixed amounts; the rest of the phase needs a part that may be of any size."""
        if not self.weights:
            raise PydanticCustomError(
                "budget_share",
                "must have a part with a weight, which fills what the budget shares leave (got {names}); add one",
                {"names": ", ".join(self.budget_shares)},
            )
        return self


class Mixture(Spec):
    """The phases of a training run, in order."""

    phases: list[Phase] = Field(min_length=1, description="at least one phase")

    @property
    def slots(self) -> dict[str, str]:
        """Every part of some phase, in the order in which they are first named, and the corpus
        whose text it reads.
        """
        return {name: corpus for phase in self.phases for name, corpus in phase.slots.items()}

    @property
    def corpora(self) -> list[str]:
        """Every corpus whose text some phase reads."""
        return list(dict.fromkeys(self.slots.values()))


class Model(Spec):
    """A training run: a mixture, a shape of specs/shapes and a seed."""

    mixture: Name = Field(description="a row of `mixtures`")
    shape: str = Field(min_length=1, description="a file of specs/shapes, without .yaml")
    seed: int = Field(ge=0, lt=2**31, description="seeds the weights and the order of the rows")
