"""Scorers: the rows of `scorers`, their ensembles, and the finetuning of encoders."""

from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from specs import SPECS
from specs.spec import Name, Names, Score, Seed, Share, Spec, Text
from specs.yaml_source import NamedFile

RECIPES = SPECS / "recipes"
# Kinds that give a reason and need no labels.
JUDGES = ("lexicon", "llm")
# Kinds that may grade the sample.
LABELLERS = ("labels", "label_file", "assumed", *JUDGES)
# Kinds that are fitted on labels, and give probabilities.
CLASSIFIERS = ("ngrams", "encoder")

JudgeName = Annotated[Name, Field(description="a row of scorers that is a judge")]
Unsafe = Annotated[Score, Field(ge=1, description="a score from 1 to 5")]
UnsafeWeight = Annotated[
    PositiveFloat, Field(description="λ: the weight of the loss on documents scored above 0")
]


class Lexicon(Spec):
    """The word lists of specs/hazards.yaml: an offline rule in place of a judge that reads."""

    kind: Literal["lexicon"]


class Labels(Spec):
    """The label that the source itself gives some documents, most often by people."""

    kind: Literal["labels"]


class LabelRows(Spec):
    """Labels in a file: given by people, or by the judge of an earlier round.

    A document without a label is unlabelled, which is not a score of 0. Of several labels of one
    document the highest counts.
    """

    kind: Literal["label_file"]
    path: Text = Field(
        description="JSON lines, .gz or not, or Parquet; or a folder of one of them, such as a "
        "copy of build/annotate",
    )
    id: str | None = Field(
        default=None, description="the field with the document's id in build/clean"
    )
    text: str | None = Field(
        default=None,
        description="the field with the document's text, which finds the document where id is "
        "left out, and which scorers of an earlier round are fitted on",
    )
    where: dict[str, str] = Field(
        default={}, description="only rows with these values in these fields are read"
    )
    label: Text = Field(
        description="the field with a score from 0 to 5; or, with `scores`, with a table of "
        "categories that are 0 or 1",
    )
    scores: dict[str, Score] | None = Field(
        default=None,
        description="the score of each category. A document has the highest of its categories, 0 "
        "if all are known to be 0, and no label if one is missing",
    )

    @model_validator(mode="after")
    def _finds_documents(self) -> Self:
        if self.id is None and self.text is None:
            raise ValueError("needs `id` or `text`, the field by which a document is found")
        return self


class Assumed(Spec):
    """One score for every document of a source, without looking at it.

    It fits sources that were collected for what they contain: an encyclopedia is harmless; the
    paper takes toxic texts alone from ToxiGen and Jigsaw (paper §1.2).
    """

    kind: Literal["assumed"]
    score: Score


# Scorers that know documents of some sources alone, and cannot grade any other text.
GivenLabels = Labels | LabelRows | Assumed


class Llm(Spec):
    """A language model with the rubric of paper §1.1 (paper §1.4: Qwen2.5-7B-Instruct)."""

    kind: Literal["llm"]
    engine: Name = Field(description="a row of engines that is a language model")
    rubric: Name = Field(description="a file of specs/prompts/judge, without .yaml")
    max_attempts: PositiveInt = Field(description="attempts at a valid answer for a page")
    seed: Seed


class Ngrams(Spec):
    """Logistic regression on hashed n-grams of words, and of the characters within words."""

    kind: Literal["ngrams"]
    words: list[Annotated[int, Field(ge=1, le=5)]] = Field(
        description="lengths of the word n-grams"
    )
    characters: list[Annotated[int, Field(ge=2, le=8)]] = Field(
        description="lengths of the character n-grams; a word counts with the gap on either side; "
        "[] is twice as fast"
    )
    buckets: PositiveInt = Field(le=2**20, description="n-grams are hashed into this many columns")
    unsafe_weight: UnsafeWeight
    regularisation: PositiveFloat = Field(description="C, the inverse strength of the L2 penalty")
    chunk_characters: PositiveInt | None = Field(
        default=None,
        description="characters of a chunk; a document's score is the highest of its chunks. Write "
        "the usual length of the labelled texts if documents are longer; leave it out to grade "
        "whole documents",
    )


class Encoder(Spec):
    """A Hugging Face encoder with a 6-way head, finetuned on the labels (paper §1.3)."""

    kind: Literal["encoder"]
    model: Text = Field(description="a folder with config.json, or an id of the Hugging Face hub")
    revision: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")] | None = Field(
        description="the commit on the hub, 40 hex digits; null for a folder"
    )
    recipe: Name = Field(description="a file of specs/recipes, without .yaml")
    sequence_length: PositiveInt = Field(
        description="tokens of a chunk; a document's score is the highest of its chunks"
    )
    unsafe_weight: UnsafeWeight


class Cascade(Spec):
    """A cheap scorer for the confident cases and an expensive one for the rest.

    Two thresholds on the cheap scorer's probability are fitted for a recall and a precision.
    """

    kind: Literal["cascade"]
    cheap: Name = Field(
        description="a row of scorers of kind ngrams or encoder: it gives probabilities"
    )
    expensive: Name = Field(description="another row of scorers")
    min_score: Unsafe = Field(description="documents of at least this score are to be found")
    recall: Share = Field(
        description="of what the expensive scorer would find, the share that must still be found"
    )
    precision: Share = Field(
        description="of what the cheap scorer finds by itself, the share that must be right"
    )


ScorerRow = Annotated[
    Labels | LabelRows | Assumed | Lexicon | Llm | Ngrams | Encoder | Cascade,
    Field(discriminator="kind"),
]


class Statistic(Spec):
    """One score from several: the highest (paper §1.5, for recall), the mean or the median.

    Halves are rounded up. If a scorer could not grade a page, the page has a score only if no grade
    of that scorer would change it.
    """

    rule: Literal["max", "mean", "median"]
    of: Names = Field(description="columns of score.scorers")

    @property
    def thresholds(self) -> dict[str, int]:
        """The columns, each without a threshold."""
        return dict.fromkeys(self.of, 0)


class AnyOf(Spec):
    """The highest of the scores that reach their own thresholds; 0 if none does.

    If a scorer could not grade a page, the page has a score only if no grade of that scorer would
    change it.
    """

    rule: Literal["any"]
    of: dict[Name, Unsafe] = Field(
        min_length=1, description="columns of score.scorers, each with its threshold"
    )

    @property
    def thresholds(self) -> dict[str, int]:
        """The columns and their thresholds."""
        return dict(self.of)


Ensemble = Annotated[Statistic | AnyOf, Field(discriminator="rule")]


class Draw(Spec):
    """A draw that depends on the scores of first scorers, fitted on the labels of a file.

    `stratified` takes as many documents of each score of the first one of `of`. `disagreement`
    takes those whose scores lie furthest apart, and none on which all agree.
    """

    rule: Literal["stratified", "disagreement"]
    of: Names = Field(description="rows of scorers that grade the source")
    labels: Name | None = Field(
        default=None,
        description="a row of scorers of kind label_file, which classifiers among `of` are fitted "
        "on; leave it out where there are none",
    )


class PoolRow(Spec):
    """Documents of one source that are labelled."""

    source: Name = Field(description="a row of sources")
    documents: PositiveInt = Field(
        description="documents that are drawn; all that can be if there are fewer"
    )
    draw: Draw | None = Field(default=None, description="leave it out for a uniform draw")
    judge: JudgeName | None = Field(
        default=None, description="the labeller of this row; leave it out for annotate.judge"
    )
    beside: list[Name] = Field(
        default=[],
        description="further labellers, whose labels get columns of their own and are not fitted",
    )


class MaxShift(Spec):
    """Bounds on the shift from labelled to scored documents; beyond one the stage fails."""

    unseen: Share = Field(
        description="words that no label has: the share among scored documents, less the share "
        "among labelled ones"
    )
    scores: Share = Field(
        description="the share of documents that would need another score for "
        "both to have the same distribution of scores"
    )
    length: float = Field(gt=1, description="times as long, or as short, at the median")


class OperatingPoint(Spec):
    """The probability from which fitted scorers call a document unsafe.

    It is set on documents of a source that is harmless but for few of them: at most the share
    `max_share` of these gets a score of `min_score` or above. Documents below get the most probable
    of the lower scores.
    """

    source: Name = Field(description="a row of sources, harmless but for few documents")
    documents: PositiveInt = Field(description="documents that are drawn from it")
    min_score: Unsafe
    max_share: Share = Field(
        description="the share of harmless documents that may be called unsafe"
    )


class Step(Spec):
    """A stretch of finetuning, either of the head or of all weights."""

    trains: Literal["head", "all"]
    epochs: PositiveInt
    learning_rate: PositiveFloat
    batch: PositiveInt
    weight_decay: NonNegativeFloat


class Recipe(NamedFile):
    """Finetuning of an encoder: first its head, then all weights (LP-FT: Kumar et al. 2022)."""

    folder = RECIPES
    source: Text = Field(description="where the numbers are from")
    warmup: float = Field(
        ge=0, lt=1, description="share of a step's updates in which the learning rate rises"
    )
    steps: list[Step] = Field(min_length=1)
