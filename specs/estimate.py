"""Sizes of corpora and machines, for `safelm estimate` before any corpus is built."""

from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from specs.spec import Name, Share, Spec

# The tokens that are made of each corpus, of which a replacement reads one (`replaced_by`).
MadeOf = Annotated[dict[Name, PositiveInt], Field(min_length=1)]


class Estimate(Spec):
    """The block `estimate` of params.yaml. GPUs divided by `tp` are the data parallel ranks."""

    gpu: Literal["a100", "h100", "h200", "cpu_core"]
    gpus: PositiveInt
    tp: PositiveInt = Field(description="ranks of tensor parallelism")
    mfu: Share = Field(description="the share of the GPUs' arithmetic that training uses")
    tokens: dict[Name, PositiveInt | MadeOf] = Field(
        description="corpus: the tokens that it will hold; for one that replaces documents of "
        "others, a table of those: the tokens that are made of each"
    )

    def size(self, corpus: str, replaced: str | None = None) -> int:
        """Return the tokens of a corpus, or those that are made of the corpus it replaces."""
        tokens = self.tokens[corpus]
        if isinstance(tokens, int):
            return tokens
        return tokens[replaced] if replaced else sum(tokens.values())
