"""The numbers of the paper, as specs/paper.yaml holds them: what the report shows beside ours."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from specs.spec import Spec
from specs.yaml_source import validate

PAPER = Path(__file__).with_suffix(".yaml")
Percent = Annotated[float, Field(ge=0, le=100, description="percent, from 0 to 100")]
Fraction = Annotated[float, Field(ge=0, le=1, description="from 0 to 1")]
Row = Annotated[list[NonNegativeInt], Field(min_length=6, max_length=6)]


class StageRates(Spec):
    """The three bars of one stage in Figure 2."""

    standard: Percent
    safe: Percent
    safebeam: Percent


class AttackSuccess(Spec):
    """Figure 2: attack success of base, instruction-tuned and benignly finetuned models."""

    source: str
    pretrain: StageRates
    instruct: StageRates
    finetune: StageRates


class Ladder(Spec):
    """Figure 4: the interventions, one added to another."""

    source: str
    stage: Literal["pretrain", "instruct", "finetune"]
    rungs: dict[str, Percent]


class Labels(Spec):
    """How many of the harmless prompts were answered in which way."""

    complied: NonNegativeInt
    unhelpful: NonNegativeInt
    partial_refusal: NonNegativeInt
    refused: NonNegativeInt


class OverRefusal(Spec):
    """Figure 3: answers to harmless prompts."""

    source: str
    of: PositiveInt
    standard: Labels
    safe: Labels


class Utility(Spec):
    """General abilities, mean accuracy."""

    source: str
    rungs: dict[str, Percent]


class Scorer(Spec):
    """A row of the paper's table of classifiers."""

    macro_f1: Fraction | None
    recall_1: Fraction
    recall_3: Fraction


class Classifier(Spec):
    """Table 3 and Figure 5: how well unsafe pages are found."""

    source: str
    table: dict[str, Scorer]
    matrix_source: str
    matrices: dict[str, Annotated[list[Row], Field(min_length=6, max_length=6)]]


class Hazard(Spec):
    """Hazard n-grams per million tokens in three slices of the web."""

    score_0: NonNegativeFloat
    score_3: NonNegativeFloat
    rephrased_3: NonNegativeFloat


class ReportCard(Spec):
    """Figure 1: the Data Safety Report Card."""

    source: str
    documents: Row
    hazards: dict[str, Hazard]


class Paper(Spec):
    """specs/paper.yaml."""

    asr: AttackSuccess
    ladder: Ladder
    over_refusal: OverRefusal
    utility: Utility
    classifier: Classifier
    card: ReportCard

    @classmethod
    def read(cls) -> Self:
        """The paper's numbers."""
        return validate(cls, PAPER)
