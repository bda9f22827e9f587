"""Corpora: named selections of documents that mixtures read; tags of raw pages, gates of texts."""

from typing import Annotated, Literal

from pydantic import Discriminator, Field, PositiveFloat, PositiveInt, Tag

from specs.spec import Name, Scores, Seed, Share, Spec

FROM = r"^(clean|rephrase|refuse|educate|tag)/[a-z][a-z0-9_]*$"
# Scored pages, by their source and score.
Pages = set[tuple[str, int]]
Epochs = Annotated[PositiveFloat, Field(description="how often a model may read the corpus")]
AllowEmpty = Annotated[
    bool,
    Field(description="true: a mixture may read it without a document; leave it out to stop then"),
]


class Gates(Spec):
    """Checks of every written text. One that fails is written again, then dropped and counted."""

    min_words: PositiveInt = Field(description="words of a text, at least")
    max_words: PositiveInt = Field(
        description="words of a text, at most; a longer document may become a longer text"
    )
    max_length_ratio: PositiveFloat = Field(
        description="a text may have this many times the words of its document"
    )
    ngram: PositiveInt = Field(
        description="words in a row that count as copied if the document has them in this order"
    )
    max_copied_share: Share = Field(description="share of a text's n-grams that may be copied")
    max_attempts: PositiveInt = Field(description="attempts at a text")


class ScoredCorpus(Spec):
    """The documents of a scored source whose score is one of `scores`."""

    from_: str = Field(
        alias="from",
        pattern=r"^clean/[a-z][a-z0-9_]*$",
        description="clean/<source>, of a source of `score.sources`",
    )
    scores: Scores
    epochs: Epochs
    allow_empty: AllowEmpty = False

    @property
    def source(self) -> str:
        """The source whose scores are read."""
        return self.from_.partition("/")[2]

    @property
    def pages(self) -> Pages:
        """The pages that are read, by source and score."""
        return {(self.source, score) for score in self.scores}


class WholeCorpus(Spec):
    """Every document that a stage wrote."""

    from_: str = Field(
        alias="from",
        pattern=FROM,
        description="clean/<source>, or rephrase, refuse, educate or tag/<row>",
    )
    epochs: Epochs
    allow_empty: AllowEmpty = False


def _kind(row: object) -> str:
    has_scores = "scores" in row if isinstance(row, dict) else isinstance(row, ScoredCorpus)
    return "scored" if has_scores else "whole"


Corpus = Annotated[
    Annotated[ScoredCorpus, Tag("scored")] | Annotated[WholeCorpus, Tag("whole")],
    Discriminator(_kind),
]


def scores_of(corpus: ScoredCorpus | WholeCorpus) -> list[int] | None:
    """Return the scores that a corpus selects; None if it has every document."""
    return list(corpus.scores) if isinstance(corpus, ScoredCorpus) else None


def tags_of(corpus: ScoredCorpus | WholeCorpus) -> str | None:
    """Return the row of `tags` that wrote a corpus; None if its text has no tags."""
    origin, _, row = corpus.from_.partition("/")
    return row if origin == "tag" else None


class Selection(Spec):
    """The documents of a scored source that have one of some scores."""

    from_: Name = Field(alias="from", description="a source of `score.sources`")
    scores: Scores

    @property
    def pages(self) -> Pages:
        """The pages that are read, by source and score."""
        return {(self.from_, score) for score in self.scores}


class TagRow(Selection):
    """The harmfulness tag between words of raw unsafe documents (paper §4, Algorithm 1)."""

    rate: Share = Field(
        description="probability of a tag before each word but the first; the paper's best is 0.05"
    )
    mode: Literal["bernoulli", "exact"] = Field(
        description="a draw for each word, or exactly the rounded share of the words"
    )
    seed: Seed
