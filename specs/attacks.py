"""Attacks: the rows of `attacks`, a union by `kind`, and those of `relearn`.

All are beyond the paper on safety pretraining. Suffixes are found by greedy coordinate gradient
(Zou et al. 2023, arXiv 2307.15043), directions of refusal by differences of means (Arditi et al.
2024, arXiv 2406.11717).
"""

from typing import Annotated, Literal, Self

from pydantic import (
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    model_validator,
)
from pydantic_core import PydanticCustomError

from specs.decoder import TagProbability
from specs.spec import Name, Names, Seed, Spec


class Attacked(Spec):
    """The models and decoders of every attack."""

    models: Names = Field(description="rows of `models`")
    decoders: Names = Field(description="rows of evaluate.decoders")


class Attack(Attacked):
    """The prompts of every row of `attacks`."""

    stages: list[Literal["pretrain", "instruct", "finetune"]] = Field(min_length=1)
    suite: Name = Field(description="a harmful suite of evaluate.suites")
    max_prompts: PositiveInt = Field(description="prompts of the suite, at most")

    @property
    def extra_tokens(self) -> int:
        """The most tokens that it adds to a prompt and its answer."""
        return 0


class TargetedAttack(Attack):
    """An attack that seeks one answer to each prompt."""

    target: str | None = Field(
        min_length=1,
        description="the beginning of that answer, such as Sure, here is; null for that of the "
        "suite: its column `target`, or an answer that the demo world knows",
    )


class Suffix(TargetedAttack):
    """A search for suffixes that make a model begin a harmful answer, one for each prompt.

    There are two controls: the prompt without a suffix, and a random suffix of the same length,
    with which the search begins.
    """

    kind: Literal["suffix"]
    suffix_tokens: PositiveInt = Field(
        description="tokens of a suffix; 20 in the paper of the method"
    )
    steps: PositiveInt = Field(description="steps of the search; 500 there")
    candidates: PositiveInt = Field(description="suffixes tried in a step; 512 there")
    top_k: PositiveInt = Field(
        description="tokens that the gradient proposes for each position of the suffix; 256 there"
    )
    tag_weight: NonNegativeFloat = Field(
        description="nats of the target's mean log-probability given for a mean tag probability of "
        "1, as tag_weight of branch: for an attacker who knows the tag; 0 for one who does not"
    )
    seed: Seed

    @property
    def extra_tokens(self) -> int:
        """The tokens of a suffix."""
        return self.suffix_tokens

    @model_validator(mode="after")
    def _has_so_many_candidates(self) -> Self:
        most = self.suffix_tokens * self.top_k
        if self.candidates > most:
            raise PydanticCustomError(
                "candidates",
                "candidates must be at most suffix_tokens x top_k, as many as there are "
                "(got {candidates} of {most}); write candidates: {most}",
                {"candidates": self.candidates, "most": most},
            )
        return self


class Prefill(TargetedAttack):
    """Answers that are made to begin with the first tokens of the target.

    The control is the beginning alone: an answer of these tokens and nothing else.
    """

    kind: Literal["prefill"]
    tokens: list[NonNegativeInt] = Field(
        min_length=1,
        description="numbers of tokens, each a condition of its own; 0 is no attack",
    )

    @property
    def extra_tokens(self) -> int:
        """The longest beginning, so that all conditions have the same prompts."""
        return max(self.tokens)


class Abliteration(Attack):
    """Removal of the direction of refusal from everything that a model's layers write.

    The direction is a difference of mean hidden states between harmful and harmless requests. The
    controls are the model itself and a random direction.
    """

    kind: Literal["abliteration"]
    source: Name = Field(
        description="a dialogue source of `sources`, with requests of a hazard that are declined"
    )
    pairs: PositiveInt = Field(
        description="harmful requests, and as many harmless ones, whose means are compared; 128 in "
        "the paper of the method"
    )
    held_out: PositiveInt = Field(
        description="further requests of each, on which the layer is chosen, and "
        "harmless ones on which the divergence is measured; 32 there"
    )
    seed: Seed


class BestOf(Attack):
    """Several answers to each prompt, drawn with a decoder: any that is harmful is a success.

    The worst case over the grid of temperature and top-p is one more condition. The control is the
    decoder as it is.
    """

    kind: Literal["best_of"]
    samples: PositiveInt = Field(description="answers to each prompt, at each point of the grid")
    temperatures: list[PositiveFloat] = Field(min_length=1)
    top_p: list[TagProbability] = Field(
        min_length=1, description="shares of probability: draw among the likeliest tokens up to it"
    )
    seed: Seed


AttackRow = Annotated[Suffix | Prefill | Abliteration | BestOf, Field(discriminator="kind")]


class Relearn(Attacked):
    """Tuning of some models on pairs from one part of a source, measured at checkpoints.

    The learning rate is constant, so a checkpoint equals a run that ends after so many pairs.
    """

    stage: Literal["pretrain", "instruct"] = Field(
        description="the model to tune: the base model, which then learns the chat format too, or "
        "the instruction-tuned one"
    )
    source: Name = Field(description="a dialogue source of `sources`")
    part: Literal["harmful", "benign"] = Field(
        description="harmful: requests of a hazard with answers that comply (label 4 or 5), "
        "without the tag; benign: requests of no hazard, the control"
    )
    checkpoints: list[PositiveInt] = Field(
        min_length=1,
        description="pairs after which the model is measured, rising, in whole batches; it is "
        "measured before any, too",
    )
    batch_size: PositiveInt
    sequence_length: PositiveInt
    learning_rate: PositiveFloat = Field(description="constant, without a warm-up")
    suites: Names = Field(description="rows of evaluate.suites, but those of utility")
    seed: Seed

    @model_validator(mode="after")
    def _checkpoints_rise_by_whole_batches(self) -> Self:
        pairs, size = self.checkpoints, self.batch_size
        if pairs != sorted(set(pairs)) or any(count % size for count in pairs):
            raise PydanticCustomError(
                "checkpoints",
                "checkpoints must rise, each a multiple of batch_size {size} (got {pairs})",
                {"size": size, "pairs": ", ".join(map(str, pairs))},
            )
        return self
