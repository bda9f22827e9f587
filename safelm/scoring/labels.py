"""The labels of `annotate`, what is held back of them, and the block that fits a scorer on the
rest.
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
from safelm.scoring.base import GradeDocuments, Scorer, grade_columns
from safelm.seeding import hash_rank
from safelm.text.hazards import Grade
from specs.spec import SCORE_LEVELS

HELD_OUT = "held_out.parquet"

# What one scorer says of each held-out label, and the size of what it read.
GRADED = {
    "id": "string",
    "score": "int8",
    **{f"p{level}": "float32" for level in range(SCORE_LEVELS)},
    "by": "string",
    "characters": "int64",
}


@dataclass(frozen=True)
class Label:
    """A document of the sample: the judge's score and hazard, and as `label` the score its source
    gives, if any.
    """

    id: str
    text: str
    score: int
    reason: str
    hazard: str | None
    label: int | None


def read_labels(folder: Path) -> list[Label]:
    """Every label of build/annotate, by id: the order of shards does not matter."""
    return _sorted(row for table in tables(folder) for row in table.to_pylist())


def _sorted(rows: Iterable[dict[str, Any]]) -> list[Label]:
    return sorted((Label(**row) for row in rows), key=lambda label: label.id)


def split_labels(
    labels: Sequence[Label], share: float, seed: int
) -> tuple[list[Label], list[Label]]:
    """(for training, held out), stratified by score and drawn by id; a class always keeps one for
    training.
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
        """The document with its label as the score, and the source's hazard; None where there is no
        label.
        """
        score, hazard = document.metadata.get("label"), document.metadata.get("hazard")
        document.metadata |= grade_columns(
            None if score is None else Grade(score, "the source's label", hazard)
        )
        yield document


@dataclass(kw_only=True, eq=False, repr=False)
class ReadLabels(Reader):
    """Read every label as the one task of a fit: a classifier is one file set, not one for each
    shard.
    """

    name: ClassVar[str] = "labels"
    folder: Path = field(metadata={"key": False})  # its files are the task's inputs

    def tasks(self) -> list[Task]:
        """One task without a name, so that its files have the names a model's files must have."""
        return [Task("", tuple(Input(shard.path, shard.sha256) for shard in shards(self.folder)))]

    def read(self, task: Task) -> Iterator[Document]:
        """A document for each label, by id."""
        rows = (
            row
            for item in task.inputs
            for row in Shard(item.path, 0, item.sha256).table().to_pylist()
        )
        for label in _sorted(rows):
            yield Document(text=label.text, id=label.id, metadata={"label": label})


@dataclass(kw_only=True, eq=False, repr=False)
class MeasureScorer(Writer):
    """Keep what a scorer says of the labels held out."""

    name: ClassVar[str] = "measure"
    held_out: float
    seed: int

    @abstractmethod
    def measured(
        self, train: Sequence[Label], held_out: Sequence[Label], attempt: Path
    ) -> list[Grade | None]:
        """What the scorer says of the labels held out."""

    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """HELD_OUT, and what `measured` saves."""
        train, held_out = split_labels(
            [document.metadata["label"] for document in documents], self.held_out, self.seed
        )
        grades = self.measured(train, held_out, attempt)
        write_table(list(map(graded, held_out, grades)), GRADED, attempt / HELD_OUT)
        self.files[HELD_OUT] = len(held_out)


@dataclass(kw_only=True, eq=False, repr=False)
class FitScorer(MeasureScorer):
    """Fit a scorer on the labels for training and save it."""

    name: ClassVar[str] = "fit"

    @abstractmethod
    def fit(self, train: Sequence[Label], attempt: Path) -> tuple[Scorer, list[str]]:
        """(the scorer, the names of the files it was saved to in the folder of the attempt)."""

    def measured(
        self, train: Sequence[Label], held_out: Sequence[Label], attempt: Path
    ) -> list[Grade | None]:
        """What the fitted scorer says of the labels held out."""
        scorer, names = self.fit(train, attempt)
        self.files |= dict.fromkeys(names, len(train))
        return scorer.grade([label.text for label in held_out])


@dataclass(kw_only=True, eq=False, repr=False)
class MeasureJudge(MeasureScorer):
    """Nothing is fitted: another judge than that of the labels grades what is held out."""

    judge: GradeDocuments = field(metadata={"key": False})

    def declared(self) -> list[Any]:
        """Its own values and those of the judge."""
        return [*super().declared(), self.judge.declared()]

    def measured(
        self, train: Sequence[Label], held_out: Sequence[Label], attempt: Path
    ) -> list[Grade | None]:
        """What the judge says, without files."""
        self.judge.begin(self.task, attempt)
        return self.judge.scorer.grade([label.text for label in held_out])


@dataclass(kw_only=True, eq=False, repr=False)
class TrustLabels(MeasureScorer):
    """Nothing is fitted and nobody asked: the labels are this judge's own."""

    name: ClassVar[str] = "trust"

    def measured(
        self, train: Sequence[Label], held_out: Sequence[Label], attempt: Path
    ) -> list[Grade | None]:
        """The labels."""
        return [Grade(label.score, label.reason, label.hazard) for label in held_out]


def graded(label: Label, grade: Grade | None) -> dict[str, Any]:
    """A row of HELD_OUT."""
    found = grade or Grade(None, "", None)  # type: ignore[arg-type]  # what the scorer could not tell
    probabilities = found.probabilities or [None] * SCORE_LEVELS
    levels = {f"p{level}": value for level, value in enumerate(probabilities)}
    return {
        "id": label.id,
        "score": found.score,
        **levels,
        "by": found.by,
        "characters": len(label.text),
    }


def read_graded(table: pa.Table) -> list[Grade | None]:
    """The grades in HELD_OUT, in its order."""
    return [_grade(row) for row in table.to_pylist()]


def _grade(row: dict[str, Any]) -> Grade | None:
    if row["score"] is None:
        return None
    probabilities = tuple(row[f"p{level}"] for level in range(SCORE_LEVELS))
    return Grade(
        row["score"], "", None, None if probabilities[0] is None else probabilities, row["by"]
    )
