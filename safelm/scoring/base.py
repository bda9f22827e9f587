"""The Scorer interface, and the blocks that grade documents with one."""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from datatrove.data import Document
from numpy.typing import NDArray

from safelm.builder.blocks import Block, Documents, Task
from safelm.builder.files import Json
from safelm.documents.batches import BatchBlock, batches
from safelm.text.hazards import Grade
from specs.spec import SCORE_LEVELS

Probabilities = NDArray[np.float64]  # (texts, SCORE_LEVELS)
Integers = NDArray[np.int64]
Grades = list[Grade | None]  # a grade for each text; None where it could not be graded
UNGRADED = "ungraded"


class Scorer(Protocol):
    """Grades texts from 0 to 5; the same texts always get the same grades."""

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return one grade for each text, or None where it could not be graded."""


def most_probable(probabilities: Probabilities) -> list[int]:
    """Return the most probable score of each row; of equally probable ones, the higher."""
    last = probabilities.shape[1] - 1
    # argmax returns the first of equals, so the columns are reversed.
    return (last - probabilities[:, ::-1].argmax(axis=1)).tolist()


def grades_of(probabilities: Probabilities, reason: str) -> Grades:
    """Return a grade for each row: its most probable score, and its probabilities."""
    # Files hold 32 bits, so a grade is the same before and after it is stored.
    rows = probabilities.astype(np.float32).tolist()
    scores = most_probable(probabilities)
    return [Grade(score, reason, None, tuple(row)) for score, row in zip(scores, rows, strict=True)]


def probability_of_level(grade: Grade, min_score: int) -> float:
    """Return a classifier's probability of a score of at least `min_score`."""
    assert grade.probabilities is not None, "a classifier gives probabilities"
    return sum(grade.probabilities[min_score:])


def decided(grade: Grade, min_score: int, is_below: bool) -> Grade:
    """Return the grade with its most probable score on one side of `min_score`."""
    probabilities = grade.probabilities or ()
    # The most probable score of all may lie on the other side.
    side = range(min_score) if is_below else range(min_score, len(probabilities))
    return grade._replace(score=max(side, key=lambda score: (probabilities[score], score)))


def grade_chunks(by_chunk: Probabilities, owners: Integers, texts: int, reason: str) -> Grades:
    """Return a grade for each text: the highest score of its chunks (paper §1.3).

    `by_chunk` has the probabilities of every chunk, `owners` the index of its text.
    """
    scores = np.zeros(texts, dtype=np.int64)
    # `at`, because plain indexing would keep one chunk of each text only.
    np.maximum.at(scores, owners, np.array(most_probable(by_chunk)))
    # P(score >= k) of a text is the largest of its chunks'.
    at_least = by_chunk[:, ::-1].cumsum(axis=1)[:, ::-1]
    highest = np.zeros((texts, SCORE_LEVELS + 1))
    np.maximum.at(highest[:, :SCORE_LEVELS], owners, at_least)
    # The last column stays 0, so the differences are the probabilities of the single scores.
    # Rounding may leave one a little below 0.
    by_text = np.clip(highest[:, :-1] - highest[:, 1:], 0.0, 1.0)
    grades = grades_of(by_text, reason)
    return [
        # The paper's score, which need not be the most probable one of the combined chunks.
        grade and grade._replace(score=score)
        for grade, score in zip(grades, scores.tolist(), strict=True)
    ]


def grade_columns(grade: Grade | None, reason: str | None = None) -> Json:
    """Return a grade as the columns of specs/document.py GRADES and LABELS.

    `reason` says why `grade` is None.
    """
    columns: Json = dict.fromkeys(Grade._fields) | {"reason": reason}
    if grade is not None:
        columns = grade._asdict()
    probabilities = columns.pop("probabilities")
    columns["unsafe"] = None if probabilities is None else sum(probabilities[1:])
    return columns


class GradeDocuments(BatchBlock):
    """Grade every document with one scorer, in batches.

    The grade is added to the metadata as the columns of specs/document.py GRADES.
    """

    name = "scorer"

    @abstractmethod
    def open(self) -> Scorer:
        """Open the scorer; called in the worker, for the first document."""

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer, opened once."""
        return self.open()

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return one grade for each text, in this block's own batches."""
        grades: Grades = []
        for batch in batches(texts, self.batch):
            grades += self.scorer.grade(batch)
        return grades

    def reason_ungraded(self, text: str) -> str:
        """Return why the last call of `grade` gave this text no grade, for the quarantine."""
        return UNGRADED

    def process_batch(self, documents: list[Document]) -> Documents:
        """Yield every document with its grade, those without one included."""
        grades = self.scorer.grade([document.text for document in documents])
        for document, grade in zip(documents, grades, strict=True):
            reason = None if grade else self.reason_ungraded(document.text)
            document.metadata |= grade_columns(grade, reason)
            self.stat_update(f"score {grade.score}" if grade else UNGRADED)
            yield document


class CompositeBlock(Block):
    """The base of blocks that work with other blocks, whose values count in the key too."""

    @abstractmethod
    def inner(self) -> Mapping[str, Block]:
        """Return the other blocks by name."""

    def declared(self) -> list[Any]:
        """Return the block's own values and those of the others."""
        others = {name: block.declared() for name, block in self.inner().items()}
        return [*super().declared(), others]

    def begin(self, task: Task, folder: Path) -> None:
        """Start the task in every block: a judge stores its answers by task."""
        super().begin(task, folder)
        for block in self.inner().values():
            block.begin(task, folder)


class KeepGraded(Block):
    """Quarantine documents without a grade."""

    name = "graded"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen = 0

    def process(self, document: Document) -> Documents:
        """Yield the document if it has a score."""
        offset = self.seen
        self.seen += 1
        if document.metadata["score"] is not None:
            yield document
            return
        reason = document.metadata["reason"] or UNGRADED
        content = document.text.encode()
        # Quarantined, never counted as 0: an invalid answer must not become a label.
        self.quarantine(reason, file=self.task.name, offset=offset, content=content)
