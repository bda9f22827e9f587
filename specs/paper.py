"""Numbers of the paper (specs/paper.yaml), which the report shows beside ours."""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from specs.spec import Spec
from specs.yaml_source import validate

PAPER = Path(__file__).with_suffix(".yaml")
Percent = Annotated[float, Field(ge=0, le=100, description="percent, from 0 to 100")]
Fraction = Annotated[float, Field(ge=0, le=1, description="from 0 to 1")]
Scores = Annotated[list[NonNegativeInt], Field(min_length=6, max_length=6)]
Matrix = Annotated[list[Scores], Field(min_length=6, max_length=6)]


class StageRates(Spec):
    """The three bars of one stage in Figure 2."""

    standard: Percent
    safe: Percent
    safebeam: Percent


class AttackSuccess(Spec):
    """Attack success of base, instruction-tuned and benignly finetuned models (Figure 2)."""

    source: str
    pretrain: StageRates
    instruct: StageRates
    finetune: StageRates


class Ablation(Spec):
    """Attack success with one more intervention at each step (Figure 4)."""

    source: str
    stage: Literal["pretrain", "instruct", "finetune"]
    steps: dict[str, Percent]


class Labels(Spec):
    """The number of harmless prompts that were answered in each way."""

    complied: NonNegativeInt
    unhelpful: NonNegativeInt
    partial_refusal: NonNegativeInt
    refused: NonNegativeInt


class OverRefusal(Spec):
    """Answers to harmless prompts (Figure 3)."""

    source: str
    of: PositiveInt
    standard: Labels
    safe: Labels


class Utility(Spec):
    """Mean accuracy on general abilities."""

    source: str
    steps: dict[str, Percent]


class Scorer(Spec):
    """A row of the paper's table of classifiers."""

    macro_f1: Fraction | None
    recall_1: Fraction
    recall_3: Fraction


class Classifier(Spec):
    """Detection of unsafe pages (Table 3 and Figure 5)."""

    source: str
    table: dict[str, Scorer]
    matrix_source: str
    matrices: dict[str, Matrix]


class Hazard(Spec):
    """Hazard n-grams per million tokens in three slices of the web."""

    score_0: NonNegativeFloat
    score_3: NonNegativeFloat
    rephrased_3: NonNegativeFloat


class ReportCard(Spec):
    """The Data Safety Report Card (Figure 1)."""

    source: str
    documents: Scores
    hazards: dict[str, Hazard]


class Paper(Spec):
    """All blocks of specs/paper.yaml."""

    asr: AttackSuccess
    ablation: Ablation
    over_refusal: OverRefusal
    utility: Utility
    classifier: Classifier
    card: ReportCard

    @classmethod
    def read(cls) -> Self:
        """Read specs/paper.yaml."""
        return validate(cls, PAPER)
