"""Labels of the stage `annotate`, and the blocks that fit and measure scorers on them.

A classifier is fitted on one part of the labels; every scorer grades the part held out.
"""

from abc import abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain, islice
from math import floor
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
from datatrove.data import Document

from safelm.builder.blocks import Documents, Reader, Task, Writer, unkeyed
from safelm.builder.files import Json
from safelm.builder.shards import shards, tables, write_table
from safelm.documents.shards import input_tables, selected, shard_inputs
from safelm.scoring.base import CompositeBlock, GradeDocuments, Grades, Scorer
from safelm.scoring.operating_point import POINT, AtOperatingPoint, OperatingPoint
from safelm.seeding import hash_rank
from safelm.text.hazards import Grade
from specs.document import LABELS, POOL
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
    """A document of the pool with its labeller's grade; `label` is the source's own, if any.

    `pool` is its row of the pool, where there are several; `beside` has the scores of further
    labellers.
    """

    id: str
    text: str
    score: int
    reason: str
    hazard: str | None
    label: int | None
    pool: str | None = None
    beside: Mapping[str, int | None] = field(default_factory=dict)


def read_labels(folder: Path) -> list[Label]:
    """Read all labels of build/annotate, sorted by id."""
    return labels_of(tables(folder))


def labels_of(parts: Iterable[pa.Table]) -> list[Label]:
    """Return the labels of several tables, sorted by id."""
    labels: list[Label] = []
    for part in parts:
        labels += map(_label, part.to_pylist())
    # By id, so that neither fit nor split depends on the shards.
    return sorted(labels, key=lambda label: label.id)


def _label(row: Json) -> Label:
    values = {name: row[name] for name in LABELS}
    beside = {name: row[name] for name in row if name not in (*LABELS, POOL)}
    return Label(**values, pool=row.get(POOL), beside=beside)


class Split(NamedTuple):
    """The labels for training, and those held out, on which every scorer is measured."""

    train: list[Label]
    held_out: list[Label]


def split_labels(labels: Sequence[Label], share: float, seed: int) -> Split:
    """Split the labels at random, stratified by score.

    At least one label of each score stays in training.
    """
    # Scores 3 to 5 are rare: 5 % of the paper's 3,001 held-out labels (paper §1.2).
    split = Split([], [])
    for score in range(SCORE_LEVELS):
        of_score = [label for label in labels if label.score == score]
        of_score.sort(key=lambda label: (hash_rank("held_out", seed, label.id), label.id))
        most = max(len(of_score) - 1, 0)
        size = min(floor(len(of_score) * share + 0.5), most)
        split.held_out.extend(of_score[:size])
        split.train.extend(of_score[size:])
    return split


class ReadLabels(Reader):
    """Read all labels in one task, then sampled documents by the values of one column.

    `sampled` are tasks of `sample_tasks`. The last file of each has the column.
    """

    name = "labels"
    folder: Path = unkeyed()  # its files are the task's inputs
    sampled: Sequence[Task] = unkeyed(default=())
    column: str = "text"

    def tasks(self) -> list[Task]:
        """Return one task without a name; its values are the number of labels' files and the ids.

        A classifier is one set of files, not one for each shard. A task's name would precede the
        names of its files.
        """
        labels = shard_inputs(shards(self.folder))
        drawn = [task for task in self.sampled if task.values]
        inputs = [task.inputs[-1] for task in drawn]
        ids = chain.from_iterable(task.values for task in drawn)
        return [Task("", (*labels, *inputs), (len(labels), *ids))]

    def read(self, task: Task) -> Documents:
        """Yield a document for each label, sorted by id, then those without a label."""
        number, *ids = task.values
        files = input_tables(task)
        for label in labels_of(islice(files, number)):
            yield Document(text=label.text, id=label.id, metadata={"label": label})
        yield from selected(self, self._others(files), ids)

    def _others(self, files: Iterable[pa.Table]) -> Documents:
        for file in files:
            for row in file.select(["id", self.column]).to_pylist():
                yield Document(text="", id=row["id"], metadata={"value": row[self.column]})


def labels_and_values(documents: Iterable[Document]) -> tuple[list[Label], list[Any]]:
    """Return what ReadLabels reads: the labels, and the values of the sampled documents."""
    labels: list[Label] = []
    values: list[Any] = []
    for document in documents:
        label = document.metadata.get("label")
        if label is None:
            values.append(document.metadata["value"])
        else:
            labels.append(label)
    return labels, values


class MeasureScorer(Writer):
    """Write the grades that one scorer gives the held-out labels."""

    name = "measure"
    held_out_share: float
    seed: int

    @abstractmethod
    def grade_held_out(self, split: Split, folder: Path) -> Grades:
        """Return the scorer's grades of the held-out labels; its files go into `folder`."""

    def write(self, documents: Documents, folder: Path) -> None:
        """Write HELD_OUT beside the files that `grade_held_out` saves."""
        labels, self.harmless = labels_and_values(documents)
        split = split_labels(labels, self.held_out_share, self.seed)
        grades = self.grade_held_out(split, folder)
        rows = list(map(held_out_row, split.held_out, grades))
        write_table(rows, HELD_OUT_COLUMNS, folder / HELD_OUT)
        self.files[HELD_OUT] = len(rows)


class FitScorer(MeasureScorer):
    """Fit a scorer on the labels for training, and save it."""

    name = "fit"
    # The score that the operating point decides, and the share of harmless documents it allows.
    point: tuple[int, float] | None = None

    @abstractmethod
    def fit(self, train: Sequence[Label], folder: Path) -> tuple[Scorer, list[str]]:
        """Return the scorer, and the names of its files in `folder`."""

    def grade_held_out(self, split: Split, folder: Path) -> Grades:
        """Return the fitted scorer's grades of the held-out labels."""
        scorer, names = self.fit(split.train, folder)
        self.files |= dict.fromkeys(names, len(split.train))
        if self.point:
            point = OperatingPoint.fit(scorer, self.harmless, *self.point)
            point.save(folder, len(self.harmless))
            self.files[POINT] = len(self.harmless)
            scorer = AtOperatingPoint(scorer, point)
        return scorer.grade([label.text for label in split.held_out])


class MeasureJudge(CompositeBlock, MeasureScorer):
    """Grade the held-out labels with a judge that did not give them; nothing is fitted."""

    judge: GradeDocuments = unkeyed()

    def inner(self) -> Mapping[str, GradeDocuments]:
        """Return the judge."""
        return {"judge": self.judge}

    def grade_held_out(self, split: Split, folder: Path) -> Grades:
        """Return the judge's grades."""
        return self.judge.scorer.grade([label.text for label in split.held_out])


class TrustLabels(MeasureScorer):
    """Take the labels as the grades of the judge that gave them."""

    name = "trust"

    def grade_held_out(self, split: Split, folder: Path) -> Grades:
        """Return the labels."""
        return [Grade(label.score, label.reason, label.hazard) for label in split.held_out]


def held_out_row(label: Label, grade: Grade | None) -> Json:
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


def _grade(row: Json) -> Grade | None:
    if row["score"] is None:
        return None
    probabilities = tuple(row[name] for name in PROBABILITY_COLUMNS)
    is_known = probabilities[0] is not None
    return Grade(row["score"], "", None, probabilities if is_known else None, row["by"])
