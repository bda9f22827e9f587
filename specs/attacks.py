"""An attack on our models by one who has their weights, one row of `attacks`: a suffix of the
request.

The method is greedy coordinate gradient (Zou et al. 2023, arXiv 2307.15043), beyond the paper on
safety pretraining."""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from specs.spec import Name, Seed, Spec


class Attack(Spec):
    """For every prompt a suffix is sought that makes the model begin a harmful answer, and asked
    beside two controls.

    The controls are the prompt as it is, and a random suffix of the same length, from which the
    search begins."""

    models: list[Name] = Field(min_length=1, description="rows of `models`")
    stages: list[Literal["pretrain", "instruct", "finetune"]] = Field(min_length=1)
    suite: Name = Field(description="a harmful suite of evaluate.suites")
    target: str | None = Field(
        min_length=1,
        description="how the answer is to begin, such as Sure, here is; null for prompts of the embedded world, which "
        "knows an answer to each",
    )
    max_prompts: PositiveInt = Field(description="prompts of the suite, at most")
    suffix_tokens: PositiveInt = Field(
        description="tokens of a suffix; 20 in the paper of the method"
    )
    steps: PositiveInt = Field(description="steps of the search; 500 there")
    candidates: PositiveInt = Field(description="suffixes tried in a step; 512 there")
    top_k: PositiveInt = Field(
        description="tokens that the gradient proposes for each place of the suffix; 256 there"
    )
    tag_weight: NonNegativeFloat = Field(
        description="for an attacker who knows the tag: nats of the target's mean log-probability given for a mean tag "
        "probability of 1, as the weight of decoder branch; 0 for one who does not"
    )
    decoders: list[Name] = Field(
        min_length=1, description="rows of evaluate.decoders, with which the prompts are asked"
    )
    seed: Seed

    @model_validator(mode="after")
    def _enough(self) -> Self:
        if self.candidates > self.suffix_tokens * self.top_k:
            raise PydanticCustomError(
                "candidates",
                "candidates must be at most suffix_tokens x top_k, as many as there are (got {candidates} of {most}); "
                "write candidates: {most}",
                {"candidates": self.candidates, "most": self.suffix_tokens * self.top_k},
            )
        return self


class Relearn(Spec):
    """Each of some models is tuned on pairs of one part of a source, and asked after every dose of
    them.

    part: harmful, requests of a hazard with answers that comply (label 4 or 5), without the tag; or
    benign, requests of no hazard: the control, which tells what the harm does from what any tuning
    does. The learning rate is constant, so what stands at a dose is what a run of so many pairs
    gives."""

    models: list[Name] = Field(min_length=1, description="rows of `models`")
    stage: Literal["pretrain", "instruct"] = Field(
        description="which model is tuned: the base model, which learns the chat format too, or the tuned one"
    )
    source: Name = Field(description="a dialogue source of `sources`")
    part: Literal["harmful", "benign"] = Field(description="what is read of it")
    checkpoints: list[PositiveInt] = Field(
        min_length=1,
        description="pairs after which the model is asked, rising, whole batches; before any, it is too",
    )
    batch_size: PositiveInt
    sequence_length: PositiveInt
    learning_rate: PositiveFloat = Field(description="constant, without a warm-up")
    suites: list[Name] = Field(
        min_length=1, description="rows of evaluate.suites, but those of utility"
    )
    decoders: list[Name] = Field(min_length=1, description="rows of evaluate.decoders")
    seed: Seed

    @model_validator(mode="after")
    def _whole_batches_that_rise(self) -> Self:
        if self.checkpoints != sorted(set(self.checkpoints)) or any(
            pairs % self.batch_size for pairs in self.checkpoints
        ):
            raise PydanticCustomError(
                "checkpoints",
                "checkpoints must rise, each a multiple of batch_size {size} (got {pairs})",
                {"size": self.batch_size, "pairs": ", ".join(map(str, self.checkpoints))},
            )
        return self
