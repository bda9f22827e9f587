"""An attack on our models by one who has their weights, one row of `attacks`: a suffix of the request.

The method is greedy coordinate gradient (Zou et al. 2023, arXiv 2307.15043), beyond the paper on safety pretraining.
"""

from typing import Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from specs.spec import Name, Seed, Spec


class Attack(Spec):
    """For every prompt a suffix is sought that makes the model begin a harmful answer, and asked beside two controls.

    The controls are the prompt as it is, and a random suffix of the same length, from which the search begins.
    """

    models: list[Name] = Field(min_length=1, description="rows of `models`")
    stages: list[Literal["pretrain", "instruct", "finetune"]] = Field(min_length=1)
    suite: Name = Field(description="a harmful suite of evaluate.suites")
    target: str | None = Field(
        min_length=1,
        description="how the answer is to begin, such as Sure, here is; null for prompts of the embedded world, which "
        "knows an answer to each",
    )
    prompts: PositiveInt = Field(description="prompts of the suite, at most")
    tokens: PositiveInt = Field(description="tokens of a suffix; 20 in the paper of the method")
    steps: PositiveInt = Field(description="steps of the search; 500 there")
    candidates: PositiveInt = Field(description="suffixes tried in a step; 512 there")
    top: PositiveInt = Field(description="tokens that the gradient proposes for each place of the suffix; 256 there")
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
        if self.candidates > self.tokens * self.top:
            raise PydanticCustomError(
                "candidates",
                "candidates must be at most tokens x top, as many as there are (got {candidates} of {most}); "
                "write candidates: {most}",
                {"candidates": self.candidates, "most": self.tokens * self.top},
            )
        return self
