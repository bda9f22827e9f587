"""The labels of `annotate`: reading and splitting them, and measuring scorers on the held-out part.

A classifier is fitted on the labels for training; every scorer grades those held out.
"""

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from math import floor
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
from datatrove.data import Document

from safelm.builder.blocks import Block, Input, Reader, Task, Writer
from safelm.builder.shards import Shard, shards, tables, write_table
from safelm.scoring.base import GradeDocuments, Grades, Scorer, grade_columns
from safelm.seeding import hash_rank
from safelm.text.hazards import Grade
from specs.spec import SCORE_LEVELS

HELD_OUT = "held_out.parquet"
PROBABILITY_COLUMNS = [f"p{score}" for score in range(SCORE_LEVELS)]
# One scorer's grades of the held-out labels, and the size of the texts it read.
HELD_OUT_COLUMNS = {
    "id": "string",
    "score": "int8",
    **dict.fromkeys(PROBABILITY_COLUMNS, "float32"),
    "by": "string",
    "characters": "int64",
}


@dataclass(frozen=True)
class Label:
    """A document of the sample and the judge's grade; `label` is the source's score, if any."""

    id: str
    text: str
    score: int
    reason: str
    hazard: str | None
    label: int | None


def read_labels(folder: Path) -> list[Label]:
    """Read every label of build/annotate, by id: the order of shards does not matter."""
    return _labels(tables(folder))


def _labels(parts: Iterable[pa.Table]) -> list[Label]:
    labels: list[Label] = []
    for part in parts:
        labels += [Label(**row) for row in part.to_pylist()]
    return sorted(labels, key=lambda label: label.id)


def split_labels(
    labels: Sequence[Label], share: float, seed: int
) -> tuple[list[Label], list[Label]]:
    """Split into (for training, held out), stratified by score and drawn by id.

    A class always keeps one label for training.
    """
    train, held_out = [], []
    for score in range(SCORE_LEVELS):
        of_score = [label for label in labels if label.score == score]
        of_score.sort(key=lambda label: (hash_rank("held_out", seed, label.id), label.id))
        size = min(floor(len(of_score) * share + 0.5), max(len(of_score) - 1, 0))
        held_out += of_score[:size]
        train += of_score[size:]
    return train, held_out


@dataclass(kw_only=True, eq=False, repr=False)
class GradeByLabel(Block):
    """Grade every document by the label that its source gives it."""

    name: ClassVar[str] = "label"

    def process(self, document: Document) -> Iterator[Document]:
        """Yield the document with its label as the score, and the source's hazard."""
        score, hazard = document.metadata.get("label"), document.metadata.get("hazard")
        grade = None if score is None else Grade(score, "the source's label", hazard)
        document.metadata |= grade_columns(grade)
        yield document


@dataclass(kw_only=True, eq=False, repr=False)
class ReadLabels(Reader):
    """Read all labels as one task: a classifier is one set of files, not one for each shard."""

    name: ClassVar[str] = "labels"
    folder: Path = field(metadata={"key": False})  # its files are the task's inputs

    def tasks(self) -> list[Task]:
        """Return one task without a name, so that a model's files keep their own names."""
        return [Task("", tuple(Input(shard.path, shard.sha256) for shard in shards(self.folder)))]

    def read(self, task: Task) -> Iterator[Document]:
        """Yield a document for each label, by id."""
        for label in _labels(Shard(item.path, 0, item.sha256).table() for item in task.inputs):
            yield Document(text=label.text, id=label.id, metadata={"label": label})


@dataclass(kw_only=True, eq=False, repr=False)
class MeasureScorer(Writer):
    """Write one scorer's grades of the held-out labels."""

    name: ClassVar[str] = "measure"
    held_out_share: float
    seed: int

    @abstractmethod
    def grade_held_out(
        self, train: Sequence[Label], held_out: Sequence[Label], attempt: Path
    ) -> Grades:
        """Return the scorer's grades of the labels held out."""

    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """Write HELD_OUT, beside the files that `grade_held_out` saves."""
        labels = [document.metadata["label"] for document in documents]
        train, held_out = split_labels(labels, self.held_out_share, self.seed)
        grades = self.grade_held_out(train, held_out, attempt)
        write_table(list(map(held_out_row, held_out, grades)), HELD_OUT_COLUMNS, attempt / HELD_OUT)
        self.files[HELD_OUT] = len(held_out)


@dataclass(kw_only=True, eq=False, repr=False)
class FitScorer(MeasureScorer):
    """Fit a scorer on the labels for training and save it."""

    name: ClassVar[str] = "fit"

    @abstractmethod
    def fit(self, train: Sequence[Label], attempt: Path) -> tuple[Scorer, list[str]]:
        """Return (the scorer, the names of its files in the folder of the attempt)."""

    def grade_held_out(
        self, train: Sequence[Label], held_out: Sequence[Label], attempt: Path
    ) -> Grades:
        """Return the fitted scorer's grades of the labels held out."""
        scorer, names = self.fit(train, attempt)
        self.files |= dict.fromkeys(names, len(train))
        return scorer.grade([label.text for label in held_out])


@dataclass(kw_only=True, eq=False, repr=False)
class MeasureJudge(MeasureScorer):
    """Grade the held-out labels with another judge than their own; nothing is fitted."""

    judge: GradeDocuments = field(metadata={"key": False})

    def declared(self) -> list[Any]:
        """Return the block's own values and those of the judge."""
        return [*super().declared(), self.judge.declared()]

    def grade_held_out(
        self, train: Sequence[Label], held_out: Sequence[Label], attempt: Path
    ) -> Grades:
        """Return the judge's grades, without files."""
        self.judge.begin(self.task, attempt)
        return self.judge.scorer.grade([label.text for label in held_out])


@dataclass(kw_only=True, eq=False, repr=False)
class TrustLabels(MeasureScorer):
    """Take the labels as the grades: they are this judge's own."""

    name: ClassVar[str] = "trust"

    def grade_held_out(
        self, train: Sequence[Label], held_out: Sequence[Label], attempt: Path
    ) -> Grades:
        """Return the labels."""
        return [Grade(label.score, label.reason, label.hazard) for label in held_out]


def held_out_row(label: Label, grade: Grade | None) -> dict[str, Any]:
    """Return a row of HELD_OUT; its score is null where there is no grade."""
    probabilities = grade and grade.probabilities
    return {
        "id": label.id,
        "score": grade and grade.score,
        **dict(zip(PROBABILITY_COLUMNS, probabilities or [None] * SCORE_LEVELS, strict=True)),
        "by": grade and grade.by,
        "characters": len(label.text),
    }


def read_held_out(table: pa.Table) -> Grades:
    """Return the grades of a HELD_OUT table, in its order."""
    return [_grade(row) for row in table.to_pylist()]


def _grade(row: dict[str, Any]) -> Grade | None:
    if row["score"] is None:
        return None
    probabilities = tuple(row[name] for name in PROBABILITY_COLUMNS)
    is_known = probabilities[0] is not None
    return Grade(row["score"], "", None, probabilities if is_known else None, row["by"])
