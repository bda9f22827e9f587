"""A relearning curve, one row of `relearn`: how many pairs of further tuning undo what a model learned to decline."""

from typing import Literal, Self

from pydantic import Field, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from specs.spec import Name, Seed, Spec


class Relearn(Spec):
    """Each of some models is tuned on pairs of one part of a source, and asked after every dose of them.

    part: harmful, requests of a hazard with answers that comply (label 4 or 5), without the tag; or benign, requests of
    no hazard: the control, which tells what the harm does from what any tuning does. The learning rate is constant, so
    what stands at a dose is what a run of so many pairs gives.
    """

    models: list[Name] = Field(min_length=1, description="rows of `models`")
    stage: Literal["pretrain", "instruct"] = Field(
        description="which model is tuned: the base model, which learns the chat format too, or the tuned one"
    )
    source: Name = Field(description="a dialogue source of `sources`")
    part: Literal["harmful", "benign"] = Field(description="what is read of it")
    doses: list[PositiveInt] = Field(
        min_length=1, description="pairs after which the model is asked, rising, whole batches; before any, it is too"
    )
    batch: PositiveInt
    sequence: PositiveInt
    learning_rate: PositiveFloat = Field(description="constant, without a warm-up")
    suites: list[Name] = Field(min_length=1, description="rows of evaluate.suites, but those of utility")
    decoders: list[Name] = Field(min_length=1, description="rows of evaluate.decoders")
    seed: Seed

    @model_validator(mode="after")
    def _whole_batches_that_rise(self) -> Self:
        if self.doses != sorted(set(self.doses)) or any(dose % self.batch for dose in self.doses):
            raise PydanticCustomError(
                "doses",
                "doses must rise, each a multiple of batch {batch} (got {doses})",
                {"batch": self.batch, "doses": ", ".join(map(str, self.doses))},
            )
        return self
