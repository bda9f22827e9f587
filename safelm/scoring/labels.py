"""Labels of the stage `annotate`, and the blocks that fit and measure scorers on them.

A classifier is fitted on one part of the labels; every scorer grades the part held out.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from datatrove.data import Document

from safelm.builder.blocks import Block, Reader, Task, Writer
from safelm.builder.shards import shards, tables, write_table
from safelm.scoring.base import (
    GradeDocuments,
    Grades,
    Scorer,
    grade_columns,
    input_tables,
    shard_inputs,
)
from safelm.seeding import hash_rank
from safelm.text.hazards import Grade
from specs.spec import SCORE_LEVELS

HELD_OUT = "held_out.parquet"
PROBABILITY_COLUMNS = [f"p{score}" for score in range(SCORE_LEVELS)]
# One scorer's grades of the held-out labels. The sizes of the texts tell what a cascade costs.
HELD_OUT_COLUMNS = {
    "id": "string",
    "score": "int8",
    **dict.fromkeys(PROBABILITY_COLUMNS, "float32"),
    "by": "string",
    "characters": "int64",
}


@dataclass(frozen=True)
class Label:
    """A document of the sample with the judge's grade; `label` is the source's own, if any."""

    id: str
    text: str
    score: int
    reason: str
    hazard: str | None
    label: int | None


def read_labels(folder: Path) -> list[Label]:
    """Read all labels of build/annotate, sorted by id."""
    return _labels(tables(folder))


def _labels(parts: Iterable[pa.Table]) -> list[Label]:
    labels: list[Label] = []
    for part in parts:
        labels += [Label(**row) for row in part.to_pylist()]
    # By id, so that neither fit nor split depends on the shards.
    return sorted(labels, key=lambda label: label.id)


def split_labels(
    labels: Sequence[Label], share: float, seed: int
) -> tuple[list[Label], list[Label]]:
    """Split the labels at random into (for training, held out), stratified by score.

    At least one label of each score stays in training.
    """
    # Scores 3 to 5 are rare: 5 % of the paper's 3,001 held-out labels (paper §1.2).
    train, held_out = [], []
    for score in range(SCORE_LEVELS):
        of_score = [label for label in labels if label.score == score]
        of_score.sort(key=lambda label: (hash_rank("held_out", seed, label.id), label.id))
        most = max(len(of_score) - 1, 0)
        size = min(floor(len(of_score) * share + 0.5), most)
        held_out += of_score[:size]
        train += of_score[size:]
    return train, held_out


@dataclass(kw_only=True, eq=False, repr=False)
class GradeByLabel(Block):
    """Grade every document with the label of its source."""

    name: ClassVar[str] = "label"

    def process(self, document: Document) -> Iterator[Document]:
        """Yield the document with its label as the score, and the source's hazard."""
        score = document.metadata.get("label")
        hazard = document.metadata.get("hazard")
        grade = None if score is None else Grade(score, "the source's label", hazard)
        document.metadata |= grade_columns(grade)
        yield document


@dataclass(kw_only=True, eq=False, repr=False)
class ReadLabels(Reader):
    """Read all labels in one task."""

    name: ClassVar[str] = "labels"
    folder: Path = field(metadata={"key": False})  # its files are the task's inputs

    def tasks(self) -> list[Task]:
        """Return one task without a name."""
        # A classifier is one set of files, not one for each shard. A task's name would precede the
        # names of its files.
        return [Task("", shard_inputs(shards(self.folder)))]

    def read(self, task: Task) -> Iterator[Document]:
        """Yield a document for each label, sorted by id."""
        for label in _labels(input_tables(task)):
            yield Document(text=label.text, id=label.id, metadata={"label": label})


@dataclass(kw_only=True, eq=False, repr=False)
class MeasureScorer(Writer):
    """Write the grades that one scorer gives the held-out labels."""

    name: ClassVar[str] = "measure"
    held_out_share: float
    seed: int

    @abstractmethod
    def grade_held_out(
        self, train: Sequence[Label], held_out: Sequence[Label], folder: Path
    ) -> Grades:
        """Return the scorer's grades of the held-out labels; its files go into `folder`."""

    def write(self, documents: Iterator[Document], folder: Path) -> None:
        """Write HELD_OUT beside the files that `grade_held_out` saves."""
        labels = [document.metadata["label"] for document in documents]
        train, held_out = split_labels(labels, self.held_out_share, self.seed)
        grades = self.grade_held_out(train, held_out, folder)
        rows = list(map(held_out_row, held_out, grades))
        write_table(rows, HELD_OUT_COLUMNS, folder / HELD_OUT)
        self.files[HELD_OUT] = len(held_out)


@dataclass(kw_only=True, eq=False, repr=False)
class FitScorer(MeasureScorer):
    """Fit a scorer on the labels for training, and save it."""

    name: ClassVar[str] = "fit"

    @abstractmethod
    def fit(self, train: Sequence[Label], folder: Path) -> tuple[Scorer, list[str]]:
        """Return the scorer, and the names of its files in `folder`."""

    def grade_held_out(
        self, train: Sequence[Label], held_out: Sequence[Label], folder: Path
    ) -> Grades:
        """Return the fitted scorer's grades of the held-out labels."""
        scorer, names = self.fit(train, folder)
        self.files |= dict.fromkeys(names, len(train))
        return scorer.grade([label.text for label in held_out])


@dataclass(kw_only=True, eq=False, repr=False)
class MeasureJudge(MeasureScorer):
    """Grade the held-out labels with a judge that did not give them; nothing is fitted."""

    judge: GradeDocuments = field(metadata={"key": False})

    def declared(self) -> list[Any]:
        """Return the block's own values and those of the judge."""
        return [*super().declared(), self.judge.declared()]

    def grade_held_out(
        self, train: Sequence[Label], held_out: Sequence[Label], folder: Path
    ) -> Grades:
        """Return the judge's grades."""
        self.judge.begin(self.task, folder)
        return self.judge.scorer.grade([label.text for label in held_out])


@dataclass(kw_only=True, eq=False, repr=False)
class TrustLabels(MeasureScorer):
    """Take the labels as the grades of the judge that gave them."""

    name: ClassVar[str] = "trust"

    def grade_held_out(
        self, train: Sequence[Label], held_out: Sequence[Label], folder: Path
    ) -> Grades:
        """Return the labels."""
        return [Grade(label.score, label.reason, label.hazard) for label in held_out]


def held_out_row(label: Label, grade: Grade | None) -> dict[str, Any]:
    """Return a row of HELD_OUT; its score is None where there is no grade."""
    probabilities = (grade and grade.probabilities) or [None] * SCORE_LEVELS
    return {
        "id": label.id,
        "score": grade and grade.score,
        **dict(zip(PROBABILITY_COLUMNS, probabilities, strict=True)),
        "by": grade and grade.by,
        "characters": len(label.text),
    }


def read_held_out(table: pa.Table) -> Grades:
    """Return the grades of a HELD_OUT table in its order, without reason and hazard."""
    return [_grade(row) for row in table.to_pylist()]


def _grade(row: dict[str, Any]) -> Grade | None:
    if row["score"] is None:
        return None
    probabilities = tuple(row[name] for name in PROBABILITY_COLUMNS)
    is_known = probabilities[0] is not None
    return Grade(row["score"], "", None, probabilities if is_known else None, row["by"])
