"""Corpora: the documents that mixtures read; the rows that write and tag some, and their gates."""

from typing import Annotated, Literal

from pydantic import Field, PositiveFloat, PositiveInt, Tag

from specs.spec import Name, Names, Score, Scores, Seed, Share, Spec, by_key

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


Corpus = Annotated[
    Annotated[ScoredCorpus, Tag("scored")] | Annotated[WholeCorpus, Tag("whole")],
    by_key("scores", "scored", "whole"),
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


class Writer(Spec):
    """The keys of every row that writes texts: the engine, its prompts, and what is kept."""

    engine: Name = Field(description="a row of `engines`, which writes")
    prompts: Names = Field(description="files of specs/prompts/<stage>, without .yaml")
    gate: Name | None = Field(
        default=None,
        description="a row of scorers that grades the texts; leave it out for the ensemble of "
        "`score`",
    )
    max_score: Score = Field(description="texts that are graded higher are not kept")
    seed: Seed


class Rewrite(Selection, Writer):
    """A row of `rephrase` or `refuse`: texts written from scored documents.

    Rephrasing makes safe, contextualised text in several styles (paper §2). Refusing makes
    dialogues that decline a request, from the worst documents (paper §3, RefuseWeb).
    """


class Educate(Writer):
    """A row of `educate`: articles on the principles of refusals (paper §3, Moral Education)."""

    from_: Name = Field(alias="from", description="a row of `refuse`")
