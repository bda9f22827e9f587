"""A cascade: a cheap scorer decides the clear documents, a dear one sees the rest.

Two thresholds on the cheap scorer's probability of a score of `level` or above say what is clear.
They are fitted on one half of the held-out labels against the dear scorer, and measured on the
other."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

from datatrove.data import Document

from safelm.builder.blocks import Input, Reader, Task, Writer
from safelm.builder.shards import Shard, write_table
from safelm.documents.batches import Size
from safelm.scoring.base import GradeDocuments, Scorer
from safelm.scoring.labels import GRADED, HELD_OUT, read_graded
from safelm.seeding import hash_rank
from safelm.stats.classification import ratio
from safelm.stats.rates import wilson
from safelm.text.hazards import Grade

THRESHOLDS = "thresholds.json"
CONFIDENCE = 0.95


class Thresholds(NamedTuple):
    """Below `low` the cheap scorer decides that a document is under the level, from `high` on that
    it is not.
    """

    low: float
    high: float

    @classmethod
    def read(cls, path: Path) -> "Thresholds":
        """What `fit` wrote."""
        values = json.loads(path.read_bytes())
        return cls(values["low"], values["high"])


NEVER = 2.0  # above every probability: nothing is clear on that side


def probability_of_level(grade: Grade, level: int) -> float:
    """The cheap scorer's probability of a score of `level` or above."""
    assert grade.probabilities is not None, (
        "the cheap scorer of a cascade gives probabilities (specs/checks/params.py)"
    )
    return sum(grade.probabilities[level:])


def fit_thresholds(
    chances: Sequence[float], found: Sequence[bool], recall: float, precision: float
) -> Thresholds:
    """The widest clear sides that keep the share `recall` of what the dear scorer finds, and are
    right to `precision`.

    What is not clear goes to the dear scorer and is never lost; of n found, floor(n x (1 - recall))
    may fall under `low`. Where the dear scorer finds nothing there is nothing to fit by: everything
    goes to it."""
    hits = sorted(value for value, is_found in zip(chances, found, strict=True) if is_found)
    if not hits:
        return Thresholds(0.0, NEVER)
    low = hits[len(hits) - ceil(len(hits) * recall - 1e-9)]
    right, high = 0, NEVER
    ranked = sorted(zip(chances, found, strict=True), reverse=True)
    for place, (value, is_found) in enumerate(ranked, 1):
        right += is_found
        last = (
            place == len(ranked) or ranked[place][0] < value
        )  # equal chances fall on the same side
        if last and value >= low and right >= precision * place:
            high = value
    return Thresholds(low, max(high, low))


def decide(cheap: Grade, limits: Thresholds, level: int, name: str) -> Grade | None:
    """The cheap scorer's grade where it is clear: its most probable score on that side. None for
    the dear one.
    """
    value = probability_of_level(cheap, level)
    if limits.low <= value < limits.high:
        return None
    assert cheap.probabilities is not None
    sides = range(level) if value < limits.low else range(level, len(cheap.probabilities))
    score = max(sides, key=lambda score: (cheap.probabilities[score], score))  # type: ignore[index]  # asserted above
    return cheap._replace(score=score, by=name)


class CascadeScorer:
    """The dear scorer is opened only when a document needs it."""

    def __init__(
        self,
        cheap: Scorer,
        dear: GradeDocuments,
        names: tuple[str, str],
        level: int,
        limits: Thresholds,
    ) -> None:
        self.cheap, self.dear, self.names, self.level, self.limits = (
            cheap,
            dear,
            names,
            level,
            limits,
        )

    def grade(self, texts: Sequence[str]) -> list[Grade | None]:
        """One grade for each text; `by` says whose."""
        cheap = self.cheap.grade(texts)
        grades = [
            decide(grade, self.limits, self.level, self.names[0]) if grade else None
            for grade in cheap
        ]
        unclear = [place for place, grade in enumerate(grades) if grade is None]
        if unclear:
            for place, grade in zip(
                unclear, self.dear.grade([texts[place] for place in unclear]), strict=True
            ):
                grades[place] = grade._replace(by=self.names[1]) if grade else None
        return grades


@dataclass(kw_only=True, eq=False, repr=False)
class GradeByCascade(GradeDocuments):
    """Grade every document by a cascade; the metadata `by` says which scorer decided."""

    cheap: GradeDocuments = field(metadata={"key": False})
    dear: GradeDocuments = field(metadata={"key": False})
    names: tuple[str, str]
    level: int
    fit_thresholds: Path

    def declared(self) -> list[Any]:
        """Its own values and those of both scorers."""
        return [*super().declared(), self.cheap.declared(), self.dear.declared()]

    @property
    def batch(self) -> Size:
        """That of the scorer which takes more at once."""
        return max(self.cheap.batch, self.dear.batch)

    def begin(self, task: Task, attempt: Path) -> None:
        """Both scorers have the task too: a judge keeps its answers by it."""
        super().begin(task, attempt)
        self.cheap.begin(task, attempt)
        self.dear.begin(task, attempt)

    def why(self, text: str) -> str:
        """What the dear scorer says: only it leaves a text without a grade."""
        return self.dear.why(text)

    def open(self) -> CascadeScorer:
        """Both scorers, each in batches of its own."""
        return CascadeScorer(
            self.cheap, self.dear, self.names, self.level, Thresholds.read(self.thresholds)
        )


@dataclass(kw_only=True, eq=False, repr=False)
class ReadHeldOut(Reader):
    """Read what two scorers say of the held-out labels, row for row."""

    name: ClassVar[str] = "held out"
    cheap: Shard = field(metadata={"key": False})  # inputs of the task
    dear: Shard = field(metadata={"key": False})

    def tasks(self) -> list[Task]:
        """One without a name, as in ReadLabels."""
        return [
            Task("", tuple(Input(shard.path, shard.sha256) for shard in (self.cheap, self.dear)))
        ]

    def read(self, task: Task) -> Iterator[Document]:
        """A document for each label, with both grades."""
        tables = [Shard(item.path, 0, item.sha256).table() for item in task.inputs]
        rows = zip(tables[0].to_pylist(), *map(read_graded, tables), strict=True)
        for row, cheap, dear in rows:
            yield Document(
                text="", id=row["id"], metadata={"row": row, "cheap": cheap, "dear": dear}
            )


@dataclass(kw_only=True, eq=False, repr=False)
class FitCascade(Writer):
    """Fit the thresholds on one half of the held-out labels, and measure the cascade on the other.

    The measure is against the dear scorer on everything: the share of documents, and of their
    characters, that each scorer decided, and the recall that is kept."""

    name: ClassVar[str] = "cascade"
    names: tuple[str, str]
    level: int
    recall: float
    precision: float
    seed: int

    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """THRESHOLDS, by what both scorers graded, and HELD_OUT with the cascade's own grades of
        everything.
        """
        every = [document.metadata for document in documents]
        both = [row for row in every if row["dear"] and row["cheap"]]
        fitted, measured = halves(both, self.seed)
        chances, found = (
            [probability_of_level(row["cheap"], self.level) for row in fitted],
            [self._found(row["dear"]) for row in fitted],
        )
        limits = fit_thresholds(chances, found, self.recall, self.precision)
        values = {**limits._asdict(), "fitted_on": len(fitted), **self._measure(measured, limits)}
        (attempt / THRESHOLDS).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        rows = [{**row["row"], **self._graded(row, limits)} for row in every]
        write_table(rows, GRADED, attempt / HELD_OUT)
        self.files = {THRESHOLDS: len(fitted), HELD_OUT: len(rows)}

    def _found(self, grade: Grade) -> bool:
        return grade.score >= self.level

    def _graded(self, row: dict[str, Any], limits: Thresholds) -> dict[str, Any]:
        """As CascadeScorer does: what neither could tell has no score."""
        cheap = decide(row["cheap"], limits, self.level, self.names[0]) if row["cheap"] else None
        if cheap:
            return {"score": cheap.score, "by": cheap.by}
        return (
            {"score": row["dear"].score, "by": self.names[1]}
            if row["dear"]
            else {"score": None, "by": None}
        )

    def _measure(self, rows: Sequence[dict[str, Any]], limits: Thresholds) -> dict[str, Any]:
        """What the cascade costs and loses on labels that it was not fitted on."""
        graded = [self._graded(row, limits) for row in rows]
        sizes = [row["row"]["characters"] for row in rows]
        dear = [grade["by"] == self.names[1] for grade in graded]
        pairs = [
            (self._found(row["dear"]), grade["score"] >= self.level)
            for row, grade in zip(rows, graded, strict=True)
        ]
        wanted = [got for is_found, got in pairs if is_found]
        low, high = wilson(sum(wanted), len(wanted), CONFIDENCE) if wanted else (None, None)
        return {
            "measured_on": len(rows),
            "asked_recall": self.recall,
            "recall": ratio(sum(wanted), len(wanted)),
            "recall_interval": [low and round(low, 6), high and round(high, 6)],
            "found": len(wanted),
            "agreement": ratio(sum(a == b for a, b in pairs), len(pairs)),
            "decided": {
                name: ratio(dear.count(is_dear), len(dear))
                for name, is_dear in zip(self.names, (False, True), strict=True)
            },
            "dear_characters": ratio(
                sum(size for size, is_dear in zip(sizes, dear, strict=True) if is_dear), sum(sizes)
            ),
        }


def halves(
    rows: Sequence[dict[str, Any]], seed: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Two halves of the held-out labels, alternately, in the order of a draw by their ids within
    each dear score.
    """
    ordered = sorted(
        rows, key=lambda row: (row["dear"].score, hash_rank("cascade", seed, row["row"]["id"]))
    )
    return ordered[::2], ordered[1::2]
