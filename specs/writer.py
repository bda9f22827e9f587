"""Writers: the rows of `rephrase`, `refuse` and `educate`."""

from pydantic import Field

from specs.corpus import Selection
from specs.spec import Name, Names, Score, Seed, Spec


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
