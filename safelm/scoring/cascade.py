"""Cascade of two scorers: a cheap one handles the confident cases, an expensive one the rest.

The cheap scorer decides where its probability of a score of `min_score` or above lies outside two
thresholds, which cascade_fit.py fits.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from safelm.builder.blocks import unkeyed
from safelm.scoring.base import (
    CompositeBlock,
    GradeDocuments,
    Grades,
    Scorer,
    decided,
    probability_of_level,
)
from safelm.text.hazards import Grade

THRESHOLDS = "thresholds.json"
NEVER = 2.0  # as `high`: above every probability, so the cheap scorer decides nothing there


class Thresholds(NamedTuple):
    """Thresholds of the cheap scorer's probability: it decides below `low` and from `high` on."""

    low: float
    high: float

    @classmethod
    def read(cls, path: Path) -> "Thresholds":
        """Read the thresholds that `fit` wrote."""
        values = json.loads(path.read_bytes())
        return cls(values["low"], values["high"])


def decide(cheap: Grade, limits: Thresholds, min_score: int, name: str) -> Grade | None:
    """Return the cheap scorer's grade where it is confident, else None."""
    probability = probability_of_level(cheap, min_score)
    if limits.low <= probability < limits.high:
        return None
    is_below = probability < limits.low
    return decided(cheap, min_score, is_below)._replace(by=name)


class CascadeScorer(NamedTuple):
    """A cheap scorer, and an expensive one that is opened only when a document needs it.

    `names` are those of the cheap and the expensive scorer.
    """

    cheap: Scorer
    expensive: GradeDocuments
    names: tuple[str, str]
    min_score: int
    limits: Thresholds

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return one grade for each text; its `by` names the scorer that decided."""
        cheap_name, expensive_name = self.names
        grades = [
            grade and decide(grade, self.limits, self.min_score, cheap_name)
            for grade in self.cheap.grade(texts)
        ]
        unclear = [index for index, grade in enumerate(grades) if grade is None]
        if unclear:
            answers = self.expensive.grade([texts[index] for index in unclear])
            for index, grade in zip(unclear, answers, strict=True):
                grades[index] = grade and grade._replace(by=expensive_name)
        return grades


class GradeByCascade(CompositeBlock, GradeDocuments):
    """Grade every document by a cascade; the metadata `by` names the scorer that decided."""

    cheap: GradeDocuments = unkeyed()
    expensive: GradeDocuments = unkeyed()
    names: tuple[str, str]
    min_score: int
    thresholds: Path

    def inner(self) -> Mapping[str, GradeDocuments]:
        """Return both scorers."""
        return {"cheap": self.cheap, "expensive": self.expensive}

    def __post_init__(self) -> None:
        super().__post_init__()
        self.batch = max(self.cheap.batch, self.expensive.batch)

    def reason_ungraded(self, text: str) -> str:
        """Return the expensive scorer's reason."""
        # A text that the cheap scorer does not grade goes to the expensive one.
        return self.expensive.reason_ungraded(text)

    def open(self) -> CascadeScorer:
        """Open the cheap scorer; the expensive one is opened for the first unclear document."""
        limits = Thresholds.read(self.thresholds)
        return CascadeScorer(self.cheap, self.expensive, self.names, self.min_score, limits)
