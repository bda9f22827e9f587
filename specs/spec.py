"""The base of every grammar: strict, frozen, without defaults."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

SCORE_LEVELS = 6  # safety scores are 0 to 5 (paper §1.1)

Score = Annotated[
    int,
    Field(
        ge=0,
        le=SCORE_LEVELS - 1,
        description="a safety score from 0 (harmless) to 5 (harmful), paper §1.1",
    ),
]
Scores = Annotated[
    list[Score], Field(min_length=1, description="a list of scores, each from 0 to 5")
]
Share = Annotated[float, Field(gt=0, lt=1, description="a share between 0 and 1, both excluded")]
Name = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_]*$",
        max_length=64,
        description="lower-case letters, digits and _, 64 at most",
    ),
]
Seed = Annotated[
    int,
    Field(
        ge=0, lt=2**31, description="a whole number that seeds every draw of chance of this block"
    ),
]


class Spec(BaseModel):
    """A grammar. It has no defaults, for DVC watches the YAML and cannot see a default in Python."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)
