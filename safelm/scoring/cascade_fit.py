"""Fitting of a cascade's thresholds to a recall and a precision.

The reference is the expensive scorer: its grades of one half of the held-out labels fit the
thresholds, those of the other half measure them.
"""

from collections.abc import Sequence
from itertools import compress
from math import ceil
from operator import eq
from pathlib import Path
from typing import Any

from datatrove.data import Document

from safelm.builder.blocks import Documents, Reader, Task, Writer, unkeyed
from safelm.builder.files import Json, write_json
from safelm.builder.shards import Shard, write_table
from safelm.documents.shards import input_tables, shard_inputs
from safelm.scoring.base import probability_of_level
from safelm.scoring.cascade import NEVER, THRESHOLDS, Thresholds, decide
from safelm.scoring.labels import HELD_OUT, HELD_OUT_COLUMNS, read_held_out
from safelm.seeding import hash_rank
from safelm.stats.classification import ratio
from safelm.stats.rates import DIGITS, wilson
from safelm.text.hazards import Grade
from specs.scorer import Cascade

CONFIDENCE = 0.95
NO_SCORE = {"score": None, "by": None}
Row = dict[str, Any]  # `label`, a row of HELD_OUT, and the grades `cheap` and `expensive`


def fit_thresholds(
    probabilities: Sequence[float], is_positive: Sequence[bool], recall: float, precision: float
) -> Thresholds:
    """Fit thresholds that send as few documents as possible to the expensive scorer.

    `is_positive` holds the expensive scorer's decisions. Of n positives, at most
    floor(n x (1 - recall)) fall below `low`. From `high` on, the share `precision` is positive.
    """
    pairs = sorted(zip(probabilities, is_positive, strict=True), reverse=True)
    positives = sorted(probability for probability, positive in pairs if positive)
    # Without a positive there is nothing to fit: everything goes to the expensive scorer.
    if not positives:
        return Thresholds(0.0, NEVER)
    # Positives between the thresholds are not lost, since the expensive scorer sees them.
    # 1e-9, because a product such as 100 x 0.07 lies just above its whole number.
    kept = ceil(len(positives) * recall - 1e-9)
    low = positives[len(positives) - kept]
    found, high = 0, NEVER
    for count, (probability, positive) in enumerate(pairs, 1):
        found += positive
        # Equal probabilities must fall on the same side.
        is_last_of_equals = count == len(pairs) or pairs[count][0] < probability
        if is_last_of_equals and probability >= low and found >= precision * count:
            high = probability
    return Thresholds(low, max(high, low))


class ReadHeldOut(Reader):
    """Read the two scorers' grades of the held-out labels, which are in the same order."""

    name = "held out"
    cheap: Shard = unkeyed()  # inputs of the task
    expensive: Shard = unkeyed()

    def tasks(self) -> list[Task]:
        """Return one task without a name, as ReadLabels does."""
        return [Task("", shard_inputs((self.cheap, self.expensive)))]

    def read(self, task: Task) -> Documents:
        """Yield a document for each label, with both grades."""
        tables = list(input_tables(task))
        grades = map(read_held_out, tables)
        for label, cheap, expensive in zip(tables[0].to_pylist(), *grades, strict=True):
            metadata = {"label": label, "cheap": cheap, "expensive": expensive}
            yield Document(text="", id=label["id"], metadata=metadata)


class FitCascade(Writer):
    """Fit the thresholds on one half of the held-out labels, and measure them on the other.

    The measurements are the recall that the cascade keeps, and the share of documents and of
    characters that each scorer decides.
    """

    name = "cascade"
    row: Cascade
    seed: int

    def write(self, documents: Documents, folder: Path) -> None:
        """Write THRESHOLDS, and HELD_OUT with the cascade's own grades."""
        rows = [document.metadata for document in documents]
        graded_by_both = [row for row in rows if row["expensive"] and row["cheap"]]
        fitted, measured = halves(graded_by_both, self.seed)
        limits = fit_thresholds(
            [probability_of_level(row["cheap"], self.row.min_score) for row in fitted],
            [self._is_positive(row["expensive"]) for row in fitted],
            self.row.recall,
            self.row.precision,
        )
        values = {**limits._asdict(), "fitted_on": len(fitted), **self._measure(measured, limits)}
        write_json(folder / THRESHOLDS, values)
        graded = []
        for row in rows:
            grade = self._grade(row, limits)
            score = {"score": grade.score, "by": grade.by} if grade else NO_SCORE
            graded.append({**row["label"], **score})
        write_table(graded, HELD_OUT_COLUMNS, folder / HELD_OUT)
        self.files = {THRESHOLDS: len(fitted), HELD_OUT: len(graded)}

    def _is_positive(self, grade: Grade) -> bool:
        return grade.score >= self.row.min_score

    def _grade(self, row: Row, limits: Thresholds) -> Grade | None:
        """Grade as CascadeScorer does; None where neither scorer gave a grade."""
        cheap, expensive = row["cheap"], row["expensive"]
        decided = cheap and decide(cheap, limits, self.row.min_score, self.row.cheap)
        return decided or (expensive and expensive._replace(by=self.row.expensive))

    def _measure(self, rows: Sequence[Row], limits: Thresholds) -> Json:
        """Measure recall and cost on labels that the thresholds were not fitted on."""
        grades = [self._grade(row, limits) for row in rows]
        expected = [self._is_positive(row["expensive"]) for row in rows]
        # Both scorers graded these documents.
        predicted = [self._is_positive(grade) for grade in grades if grade]
        kept = list(compress(predicted, expected))
        deciders = [grade.by for grade in grades if grade]
        names = (self.row.cheap, self.row.expensive)
        characters = [row["label"]["characters"] for row in rows]
        is_expensive = [decider == self.row.expensive for decider in deciders]
        expensive_characters = sum(compress(characters, is_expensive))
        return {
            "measured_on": len(rows),
            "required_recall": self.row.recall,
            "recall": ratio(sum(kept), len(kept)),
            "recall_interval": _recall_interval(kept),
            "found": len(kept),
            "agreement": ratio(sum(map(eq, expected, predicted)), len(rows)),
            "decided": {name: ratio(deciders.count(name), len(rows)) for name in names},
            "expensive_share": ratio(expensive_characters, sum(characters)),
        }


def _recall_interval(kept: Sequence[bool]) -> list[float | None]:
    if not kept:
        return [None, None]
    return [round(bound, DIGITS) for bound in wilson(sum(kept), len(kept), CONFIDENCE)]


def halves(rows: Sequence[Row], seed: int) -> tuple[list[Row], list[Row]]:
    """Split the held-out labels at random in two, stratified by the expensive scorer's score."""

    def rank(row: Row) -> tuple[int, bytes]:
        return row["expensive"].score, hash_rank("cascade", seed, row["label"]["id"])

    ordered = sorted(rows, key=rank)
    # Neighbours have the same score, so both halves have as many of each.
    return ordered[::2], ordered[1::2]
