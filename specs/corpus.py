"""A corpus: a named selection of documents that mixtures read."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, PositiveFloat, Tag

from specs.spec import Score, Scores, Seed, Share, Spec

FROM = r"^((ingest|tag)/[a-z][a-z0-9_]*|rephrase|refuse|educate)$"


class ScoredCorpus(Spec):
    """The documents of the scored web whose score is one of `scores`."""

    from_: str = Field(
        alias="from", pattern=r"^ingest/web$", description="ingest/web: only the web is scored"
    )
    scores: list[Score] = Field(min_length=1, description="which scores are read")
    epochs: PositiveFloat = Field(description="how often a model may read the corpus")


class WholeCorpus(Spec):
    """Every document that a stage wrote."""

    from_: str = Field(
        alias="from",
        pattern=FROM,
        description="ingest/<source>, rephrase, refuse, educate or tag/<row>",
    )
    epochs: PositiveFloat = Field(description="how often a model may read the corpus")


def _kind(row: object) -> str:
    has_scores = "scores" in row if isinstance(row, dict) else isinstance(row, ScoredCorpus)
    return "scored" if has_scores else "whole"


Corpus = Annotated[
    Annotated[ScoredCorpus, Tag("scored")] | Annotated[WholeCorpus, Tag("whole")],
    Discriminator(_kind),
]


def scores_of(corpus: ScoredCorpus | WholeCorpus) -> list[int] | None:
    """The scores a corpus selects, or None where every document is read."""
    return list(corpus.scores) if isinstance(corpus, ScoredCorpus) else None


def tags_of(corpus: ScoredCorpus | WholeCorpus) -> str | None:
    """The row of `tags` that wrote a corpus, or None where its text is not tagged."""
    origin, _, row = corpus.from_.partition("/")
    return row if origin == "tag" else None


class TagRow(Spec):
    """Raw unsafe documents get the harmfulness tag between words (paper §4, Algorithm 1)."""

    from_: str = Field(
        alias="from", description="ingest/web: tags belong into raw unsafe text alone"
    )
    scores: Scores
    rate: Share = Field(
        description="probability of a tag before each word but the first; the paper's best is 0.05"
    )
    mode: Literal["bernoulli", "exact"] = Field(
        description="a coin per word, or exactly the rounded share of the words"
    )
    seed: Seed
