"""Attacks by someone who has the weights of our models: suffixes of requests, and relearning.

Both are beyond the paper on safety pretraining. Suffixes are found by greedy coordinate gradient
(Zou et al. 2023, arXiv 2307.15043).
"""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from specs.spec import Name, Names, Seed, Spec


class Attack(Spec):
    """A search for suffixes that make a model begin a harmful answer, one for each prompt.

    There are two controls: the prompt without a suffix, and a random suffix of the same length,
    with which the search begins.
    """

    models: Names = Field(description="rows of `models`")
    stages: list[Literal["pretrain", "instruct", "finetune"]] = Field(min_length=1)
    suite: Name = Field(description="a harmful suite of evaluate.suites")
    target: str | None = Field(
        min_length=1,
        description="the beginning of the answer, such as Sure, here is; null for demo prompts, "
        "of which an answer is known",
    )
    max_prompts: PositiveInt = Field(description="prompts of the suite, at most")
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
    decoders: Names = Field(description="rows of evaluate.decoders that complete the prompts")
    seed: Seed

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


class Relearn(Spec):
    """Tuning of some models on pairs from one part of a source, measured at checkpoints.

    The learning rate is constant, so a checkpoint equals a run that ends after so many pairs.
    """

    models: Names = Field(description="rows of `models`")
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
    decoders: Names = Field(description="rows of evaluate.decoders")
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
