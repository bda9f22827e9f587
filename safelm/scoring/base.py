"""The Scorer interface, and the blocks that grade documents with one."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Protocol

import numpy as np
from datatrove.data import Document
from numpy.typing import NDArray

from safelm.builder.blocks import Block
from safelm.documents.batches import BATCH, Size, batches
from safelm.text.hazards import Grade

Probabilities = NDArray[np.float64]  # a row for each text, a column for each score from 0 to 5

Grades = list[Grade | None]  # a grade for each text; None where it could not be graded

UNGRADED = "ungraded"


class Scorer(Protocol):
    """Grades texts from 0 to 5; the same texts always get the same grades."""

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return one grade for each text; None where it could not be graded, which is never a 0."""


def most_probable(probabilities: Probabilities) -> list[int]:
    """Return the most probable score of each row; of equals, the higher."""
    last = probabilities.shape[1] - 1
    return (last - probabilities[:, ::-1].argmax(axis=1)).tolist()


def grades_of(probabilities: Probabilities, reason: str) -> Grades:
    """Return a grade for each row: its most probable score, and the probabilities in 32 bits.

    Files hold 32 bits as well, so a grade is the same before and after it is stored.
    """
    rows = probabilities.astype(np.float32).tolist()
    scores = most_probable(probabilities)
    return [Grade(score, reason, None, tuple(row)) for score, row in zip(scores, rows, strict=True)]


def grade_columns(grade: Grade | None, reason: str | None = None) -> dict[str, Any]:
    """Return the columns of specs/document.py GRADES and LABELS.

    `reason` says why there is no grade.
    """
    if grade is None:
        columns: dict[str, Any] = dict.fromkeys(("score", "reason", "hazard", "unsafe", "by"))
        return {**columns, "reason": reason}
    probabilities = grade.probabilities
    return {
        "score": grade.score,
        "reason": grade.reason,
        "hazard": grade.hazard,
        "unsafe": None if probabilities is None else sum(probabilities[1:]),
        "by": grade.by,
    }


@dataclass(kw_only=True, eq=False, repr=False)
class GradeDocuments(Block):
    """Grade every document with one scorer, in batches.

    The grade goes into the metadata, as the columns of specs/document.py GRADES.
    """

    name: ClassVar[str] = "scorer"

    @property
    def batch(self) -> Size:
        """The size of a batch."""
        return BATCH

    @abstractmethod
    def open(self) -> Scorer:
        """Open the scorer; called in the worker, for the first document."""

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer, opened once."""
        return self.open()

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return one grade for each text, in this block's own batches."""
        documents = (Document(text=text, id="") for text in texts)
        grades: Grades = []
        for batch in batches(documents, self.batch):
            grades += self.scorer.grade([document.text for document in batch])
        return grades

    def reason_ungraded(self, text: str) -> str:
        """Return the quarantine's reason for a text that was just left without a grade."""
        return UNGRADED

    def run(
        self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """Yield every document with its grade; one that could not be graded keeps its row."""
        for batch in batches(data or (), self.batch):
            grades = self.scorer.grade([document.text for document in batch])
            for document, grade in zip(batch, grades, strict=True):
                reason = None if grade else self.reason_ungraded(document.text)
                document.metadata |= grade_columns(grade, reason)
                self.stat_update(f"score {grade.score}" if grade else UNGRADED)
                yield document


@dataclass(kw_only=True, eq=False, repr=False)
class KeepGraded(Block):
    """Quarantine documents without a grade, so that an invalid answer never becomes a label."""

    name: ClassVar[str] = "graded"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen = 0

    def process(self, document: Document) -> Iterator[Document]:
        """Yield the document if it has a score."""
        offset = self.seen
        self.seen += 1
        if document.metadata["score"] is not None:
            yield document
            return
        reason = document.metadata["reason"] or UNGRADED
        content = document.text.encode()
        self.quarantine(reason, file=self.task.name, offset=offset, content=content)
