"""What a scorer is, and the block that writes the column of one beside the documents."""

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


class Scorer(Protocol):
    """What grades texts from 0 to 5; the same texts always get the same grades."""

    def grade(self, texts: Sequence[str]) -> list[Grade | None]:
        """One grade for each text; None where the scorer could not tell, which is never a 0."""


def most_probable(probabilities: Probabilities) -> list[int]:
    """The most probable score of each row; of equals, the higher."""
    last = probabilities.shape[1] - 1
    return [int(last - row[::-1].argmax()) for row in probabilities]


def grades_of(probabilities: Probabilities, reason: str) -> list[Grade | None]:
    """A grade for each row: its most probable score. Probabilities are kept as they stand on disk,
    in 32 bits.
    """
    pairs = zip(
        most_probable(probabilities), probabilities.astype(np.float32).tolist(), strict=True
    )
    return [Grade(score, reason, None, tuple(row)) for score, row in pairs]


UNKNOWN = dict.fromkeys(
    ("score", "reason", "hazard", "unsafe", "by")
)  # of a document that a scorer could not grade


def grade_columns(grade: Grade | None) -> dict[str, Any]:
    """The columns of specs/document.py GRADES and LABELS."""
    if grade is None:
        return dict(UNKNOWN)
    unsafe = None if grade.probabilities is None else sum(grade.probabilities[1:])
    return {
        "score": grade.score,
        "reason": grade.reason,
        "hazard": grade.hazard,
        "unsafe": unsafe,
        "by": grade.by,
    }


@dataclass(kw_only=True, eq=False, repr=False)
class GradeDocuments(Block):
    """Grade every document with one scorer, in batches: its metadata gets what specs/document.py
    GRADES names.
    """

    name: ClassVar[str] = "scorer"

    @property
    def batch(self) -> Size:
        """How much it grades at once."""
        return BATCH

    @abstractmethod
    def open(self) -> Scorer:
        """The scorer; called in the worker, when the first document comes."""

    @cached_property
    def scorer(self) -> Scorer:
        """The scorer, opened once."""
        return self.open()

    def grade(self, texts: Sequence[str]) -> list[Grade | None]:
        """One grade for each text, as a Scorer gives them; in its own batches, whatever those of a
        block around it.
        """
        parts = batches((Document(text=text, id="") for text in texts), self.batch)
        return [
            grade
            for part in parts
            for grade in self.scorer.grade([document.text for document in part])
        ]

    def why(self, text: str) -> str:
        """Why a text that was just graded has no grade: the reason in the quarantine."""
        return "ungraded"

    def run(
        self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """Every document with its grade; an ungraded one has a score of None, and why, and stays in
        its row.
        """
        for batch in batches(data or (), self.batch):
            grades = self.scorer.grade([document.text for document in batch])
            for document, grade in zip(batch, grades, strict=True):
                document.metadata |= (
                    grade_columns(grade)
                    if grade
                    else {**UNKNOWN, "reason": self.why(document.text)}
                )
                self.stat_update(f"score {grade.score}" if grade else "ungraded")
                yield document


@dataclass(kw_only=True, eq=False, repr=False)
class KeepGraded(Block):
    """Quarantine what the scorer could not grade: an invalid answer never becomes a label."""

    name: ClassVar[str] = "graded"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen = 0

    def process(self, document: Document) -> Iterator[Document]:
        """The document, if it has a score."""
        self.seen += 1
        if document.metadata["score"] is None:
            why = document.metadata["reason"] or "ungraded"
            self.quarantine(
                why, file=self.task.name, offset=self.seen - 1, content=document.text.encode()
            )
        else:
            yield document
