"""Fitting of a cascade's thresholds for a recall and a precision.

They are fitted on one half of the held-out labels against the expensive scorer's grades, and
measured on the other half.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import compress
from math import ceil
from pathlib import Path
from typing import Any, ClassVar

from datatrove.data import Document

from safelm.builder.blocks import Input, Reader, Task, Writer
from safelm.builder.shards import Shard, write_table
from safelm.scoring.cascade import NEVER, THRESHOLDS, Thresholds, decide, probability_of_level
from safelm.scoring.labels import HELD_OUT, HELD_OUT_COLUMNS, read_held_out
from safelm.seeding import hash_rank
from safelm.stats.classification import ratio
from safelm.stats.rates import DIGITS, wilson
from safelm.text.hazards import Grade

CONFIDENCE = 0.95
Row = dict[str, Any]  # `row` of the held-out labels, and the grades `cheap` and `expensive`


def fit_thresholds(
    probabilities: Sequence[float], is_positive: Sequence[bool], recall: float, precision: float
) -> Thresholds:
    """Fit the widest confident sides that keep a recall and a precision.

    `is_positive` holds the expensive scorer's decisions. Of n positives, floor(n x (1 - recall))
    may fall under `low`; what lies between the thresholds goes to the expensive scorer and is never
    lost. From `high` on, the share `precision` must be positive. Without any positive there is
    nothing to fit: everything goes to the expensive scorer.
    """
    pairs = sorted(zip(probabilities, is_positive, strict=True), reverse=True)
    positives = sorted(probability for probability, positive in pairs if positive)
    if not positives:
        return Thresholds(0.0, NEVER)
    low = positives[len(positives) - ceil(len(positives) * recall - 1e-9)]
    right, high = 0, NEVER
    for count, (probability, positive) in enumerate(pairs, 1):
        right += positive
        # Equal probabilities fall on the same side.
        is_last_of_equals = count == len(pairs) or pairs[count][0] < probability
        if is_last_of_equals and probability >= low and right >= precision * count:
            high = probability
    return Thresholds(low, max(high, low))


@dataclass(kw_only=True, eq=False, repr=False)
class ReadHeldOut(Reader):
    """Read the grades that two scorers gave the held-out labels, row for row."""

    name: ClassVar[str] = "held out"
    cheap: Shard = field(metadata={"key": False})  # inputs of the task
    expensive: Shard = field(metadata={"key": False})

    def tasks(self) -> list[Task]:
        """Return one task without a name, as ReadLabels does."""
        files = (self.cheap, self.expensive)
        return [Task("", tuple(Input(shard.path, shard.sha256) for shard in files))]

    def read(self, task: Task) -> Iterator[Document]:
        """Yield a document for each label, with both grades."""
        tables = [Shard(item.path, 0, item.sha256).table() for item in task.inputs]
        grades = map(read_held_out, tables)
        for row, cheap, expensive in zip(tables[0].to_pylist(), *grades, strict=True):
            metadata = {"row": row, "cheap": cheap, "expensive": expensive}
            yield Document(text="", id=row["id"], metadata=metadata)


@dataclass(kw_only=True, eq=False, repr=False)
class FitCascade(Writer):
    """Fit the thresholds on one half of the held-out labels, and measure them on the other.

    The reference is the expensive scorer on everything. Measured are the recall that is kept, and
    the shares of documents and characters that each scorer decides.
    """

    name: ClassVar[str] = "cascade"
    names: tuple[str, str]
    min_score: int
    recall: float
    precision: float
    seed: int

    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """Write THRESHOLDS, and HELD_OUT with the cascade's own grades."""
        rows = [document.metadata for document in documents]
        graded_by_both = [row for row in rows if row["expensive"] and row["cheap"]]
        fitted, measured = halves(graded_by_both, self.seed)
        limits = fit_thresholds(
            [probability_of_level(row["cheap"], self.min_score) for row in fitted],
            [self._is_positive(row["expensive"]) for row in fitted],
            self.recall,
            self.precision,
        )
        values = {**limits._asdict(), "fitted_on": len(fitted), **self._measure(measured, limits)}
        (attempt / THRESHOLDS).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
        graded = [{**row["row"], **self._grade(row, limits)} for row in rows]
        write_table(graded, HELD_OUT_COLUMNS, attempt / HELD_OUT)
        self.files = {THRESHOLDS: len(fitted), HELD_OUT: len(graded)}

    def _is_positive(self, grade: Grade) -> bool:
        return grade.score >= self.min_score

    def _grade(self, row: Row, limits: Thresholds) -> dict[str, Any]:
        """Grade as CascadeScorer does; the score is null where neither scorer gave a grade."""
        cheap, expensive = row["cheap"], row["expensive"]
        decided = cheap and decide(cheap, limits, self.min_score, self.names[0])
        if decided:
            return {"score": decided.score, "by": decided.by}
        return {
            "score": expensive and expensive.score,
            "by": self.names[1] if expensive else None,
        }

    def _measure(self, rows: Sequence[Row], limits: Thresholds) -> dict[str, Any]:
        """Measure cost and recall on labels that the thresholds were not fitted on."""
        grades = [self._grade(row, limits) for row in rows]
        expected = [self._is_positive(row["expensive"]) for row in rows]
        predicted = [grade["score"] >= self.min_score for grade in grades]
        agreements = [want == got for want, got in zip(expected, predicted, strict=True)]
        kept = list(compress(predicted, expected))
        deciders = [grade["by"] for grade in grades]
        sizes = [row["row"]["characters"] for row in rows]
        is_expensive = [decider == self.names[1] for decider in deciders]
        interval: Sequence[float | None] = (None, None)
        if kept:
            interval = [round(bound, DIGITS) for bound in wilson(sum(kept), len(kept), CONFIDENCE)]
        return {
            "measured_on": len(rows),
            "asked_recall": self.recall,
            "recall": ratio(sum(kept), len(kept)),
            "recall_interval": list(interval),
            "found": len(kept),
            "agreement": ratio(sum(agreements), len(agreements)),
            "decided": {name: ratio(deciders.count(name), len(rows)) for name in self.names},
            "dear_characters": ratio(sum(compress(sizes, is_expensive)), sum(sizes)),
        }


def halves(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """Split the held-out labels in two, by a draw on ids, stratified by the expensive score."""

    def rank(row: Row) -> tuple[int, bytes]:
        return row["expensive"].score, hash_rank("cascade", seed, row["row"]["id"])

    ordered = sorted(rows, key=rank)
    return ordered[::2], ordered[1::2]
