"""A row of `tags`: how the harmfulness tag is put into raw unsafe text."""

from typing import Literal

from pydantic import Field

from specs.spec import Scores, Seed, Share, Spec


class TagRow(Spec):
    """Raw unsafe documents get the harmfulness tag between words (paper §4, Algorithm 1)."""

    from_: str = Field(alias="from", description="ingest/web: tags belong into raw unsafe text alone")
    scores: Scores
    rate: Share = Field(description="probability of a tag before each word but the first; the paper's best is 0.05")
    mode: Literal["bernoulli", "exact"] = Field(
        description="a coin per word, or exactly the rounded share of the words"
    )
    seed: Seed
