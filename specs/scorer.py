"""Scorers: the rows of `scorers`, their ensembles, and the finetuning of encoders."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from specs.spec import Name, Score, Seed, Share, Spec
from specs.yaml_source import YamlFile, check

RECIPES = Path(__file__).parent / "recipes"
# Kinds that give a reason and need no labels.
JUDGES = ("lexicon", "llm")
# Kinds that may grade the sample.
LABELLERS = ("labels", *JUDGES)

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


class Encoder(Spec):
    """A Hugging Face encoder with a 6-way head, finetuned on the labels (paper §1.3)."""

    kind: Literal["encoder"]
    model: str = Field(
        min_length=1, description="a folder with config.json, or an id of the Hugging Face hub"
    )
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
    Labels | Lexicon | Llm | Ngrams | Encoder | Cascade, Field(discriminator="kind")
]


class Statistic(Spec):
    """One score from several: the highest (paper §1.5, for recall), the mean or the median.

    Halves are rounded up. If a scorer could not grade a page, the page has a score only if no grade
    of that scorer would change it.
    """

    rule: Literal["max", "mean", "median"]
    of: list[Name] = Field(min_length=1, description="columns of score.scorers")

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


class Step(Spec):
    """A stretch of finetuning, either of the head or of all weights."""

    trains: Literal["head", "all"]
    epochs: PositiveInt
    learning_rate: PositiveFloat
    batch: PositiveInt
    weight_decay: NonNegativeFloat


class Recipe(Spec):
    """Finetuning of an encoder: first its head, then all weights (LP-FT: Kumar et al. 2022)."""

    source: str = Field(min_length=1, description="where the numbers are from")
    warmup: float = Field(
        ge=0, lt=1, description="share of a step's updates in which the learning rate rises"
    )
    steps: list[Step] = Field(min_length=1)

    @classmethod
    def read(cls, name: str) -> Self:
        """Read specs/recipes/<name>.yaml. Raises SpecError."""
        recipe: Self = check(cls, YamlFile(RECIPES / f"{name}.yaml"))
        return recipe
