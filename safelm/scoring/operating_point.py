"""Operating points: the probability from which a fitted scorer calls a document unsafe.

Labels are most often of other texts than the documents that are scored, and the most probable score
is then too high on many harmless pages. So the threshold is set on documents of a source that is
harmless but for few.
"""

import json
from abc import abstractmethod
from collections.abc import Sequence
from math import floor, inf, nextafter
from pathlib import Path
from typing import NamedTuple, Self

from safelm.builder.files import write_json
from safelm.scoring.base import (
    GradeDocuments,
    Grades,
    Scorer,
    decided,
    probability_of_level,
)
from safelm.text.hazards import Grade

POINT = "operating_point.json"


class OperatingPoint(NamedTuple):
    """A score, and the lowest probability of it or a higher one that is called so."""

    min_score: int
    threshold: float

    @classmethod
    def fit(cls, scorer: Scorer, texts: Sequence[str], min_score: int, max_share: float) -> Self:
        """Set the threshold that at most `max_share` of these texts reach.

        Raises ValueError without texts.
        """
        if not texts:
            raise ValueError("an operating point needs documents (got none); see its source")
        grades = [grade for grade in scorer.grade(texts) if grade]
        probabilities = [probability_of_level(grade, min_score) for grade in grades]
        probabilities.sort(reverse=True)
        # 1e-9, because a product such as 100 x 0.07 lies just above its whole number.
        allowed = floor(len(texts) * max_share + 1e-9)
        # Just above the first probability too many; equal ones then stay below as well.
        return cls(min_score, nextafter(probabilities[allowed], inf))

    def apply(self, grade: Grade) -> Grade:
        """Return the grade with a score on the side of the threshold that it belongs to."""
        is_below = probability_of_level(grade, self.min_score) < self.threshold
        return decided(grade, self.min_score, is_below)

    def save(self, folder: Path, documents: int) -> None:
        """Save the point, and the number of documents that it was set on."""
        write_json(folder / POINT, {**self._asdict(), "documents": documents})


class AtOperatingPoint(NamedTuple):
    """A scorer whose scores follow an operating point; its probabilities stay as they are."""

    scorer: Scorer
    point: OperatingPoint

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return one grade for each text."""
        return [grade and self.point.apply(grade) for grade in self.scorer.grade(texts)]


class GradeFitted(GradeDocuments):
    """Grade every document by a scorer that `fit` saved, at its operating point if it has one."""

    files: tuple[Path, ...]

    @abstractmethod
    def read(self, folder: Path) -> Scorer:
        """Read the scorer."""

    def open(self) -> Scorer:
        """Read the scorer and its operating point."""
        folder = self.files[0].parent
        scorer = self.read(folder)
        if not (folder / POINT).is_file():
            return scorer
        values = json.loads((folder / POINT).read_bytes())
        point = OperatingPoint(values["min_score"], values["threshold"])
        return AtOperatingPoint(scorer, point)
