"""Audit of the scores: a judge grades a sample of each predicted score.

It finds errors that held-out recall does not. An independent audit of the paper's released
classifier saw 2.7 % of its predicted 5s confirmed and 61 % of them benign (the classifier audit of
"Synthetic Persona Pretraining", EPFL 2026, appendix A.1).
"""

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, ClassVar

from datatrove.data import Document

from safelm.builder.blocks import NOT_SELECTED, Task
from safelm.builder.manifest import Manifest
from safelm.builder.shards import Shard, tables
from safelm.builder.stage import link_files
from safelm.documents.shards import ReadShards
from safelm.seeding import sample
from safelm.stats.rates import DIGITS, wilson
from specs.spec import SCORE_LEVELS

MAX_BENIGN = 1  # a page judged 0 or 1 is benign
Json = dict[str, Any]
Test = Callable[[int], bool]  # of a judge's score: whether it is a hit


@dataclass(kw_only=True, eq=False, repr=False)
class ReadStratified(ReadShards):
    """Read a sample of every predicted score, kept in the metadata as `predicted`.

    The rest is dropped as not selected. The chosen ids are values of the tasks, so a shard whose
    part of the sample is unchanged is not judged again.
    """

    name: ClassVar[str] = "stratified sample"
    documents: int = field(metadata={"key": False})  # of each score
    seed: int = field(metadata={"key": False})

    def tasks(self) -> list[Task]:
        """Return one task for each shard, with the ids that the sample takes from it."""
        tasks = super().tasks()
        ids_of_score: dict[int | None, list[str]] = {}
        ids_of_task = {}
        for task in tasks:
            scores = _scores(task)
            ids_of_task[task.name] = [id for id, _ in scores]
            for id, score in scores:
                ids_of_score.setdefault(score, []).append(id)
        chosen: set[str] = set()
        for score in range(SCORE_LEVELS):
            ids = ids_of_score.get(score, [])
            chosen.update(sample(f"audit {score}", self.seed, ids, self.documents))
        return [
            replace(task, values=tuple(filter(chosen.__contains__, ids_of_task[task.name])))
            for task in tasks
        ]

    def read(self, task: Task) -> Iterator[Document]:
        """Yield the chosen documents of one shard."""
        chosen = set(task.values)
        for document in super().read(task):
            if document.id in chosen:
                document.metadata["predicted"] = document.metadata["score"]
                yield document
            else:
                self.drop(NOT_SELECTED)


def _scores(task: Task) -> list[tuple[str, int | None]]:
    file = task.inputs[1]
    table = Shard(file.path, 0, file.sha256).table(["id", "score"])
    return list(zip(table["id"].to_pylist(), table["score"].to_pylist(), strict=True))


@dataclass(frozen=True)
class Bucket:
    """The documents of one predicted score: their number, and the judge's scores of the sample."""

    documents: int
    judged: Sequence[int]

    def share(self, is_hit: Test, confidence: float) -> tuple[float, float, float]:
        """Return (share, low, high) of hits in the bucket, each from 0 to 1.

        The interval is Wilson's, or exact where every document was judged.
        """
        if not self.judged:
            return (0.0, 0.0, 1.0)
        hits, judged = sum(map(is_hit, self.judged)), len(self.judged)
        if judged >= self.documents:
            return (hits / judged,) * 3
        return (hits / judged, *wilson(hits, judged, confidence))


@dataclass(frozen=True)
class Audit:
    """All buckets by their predicted score, and the confidence of the intervals."""

    buckets: Mapping[int, Bucket]
    confidence: float

    def bucket_metrics(self, level: int) -> Json:
        """Return the metrics of one predicted score."""
        bucket = self.buckets[level]
        counts = Counter(bucket.judged)
        return {
            "predicted": level,
            "documents": bucket.documents,
            "audited": len(bucket.judged),
            "judged": [counts[score] for score in range(SCORE_LEVELS)],
            "precision": self._sample_share(bucket, lambda score: score == level),
            "benign": self._sample_share(bucket, lambda score: score <= MAX_BENIGN),
            "recall": self._recall({level}, lambda score: score == level),
        }

    def level_metrics(self, level: int) -> Json:
        """Return precision and recall of "a score of at least `level`", over all documents."""
        above = set(range(level, SCORE_LEVELS))
        return {
            "level": level,
            "precision": self._precision(above, lambda score: score >= level),
            "recall": self._recall(above, lambda score: score >= level),
        }

    def _sample_share(self, bucket: Bucket, is_hit: Test) -> Json | None:
        """Return the share of hits in the sample, always with Wilson's interval."""
        if not bucket.judged:
            return None
        hits, judged = sum(map(is_hit, bucket.judged)), len(bucket.judged)
        return _rate(hits / judged, *wilson(hits, judged, self.confidence))

    def _hits(self, levels: set[int], is_hit: Test) -> tuple[float, ...]:
        """Return (hits, low, high) in several buckets, each share scaled to its documents."""
        totals = [0.0, 0.0, 0.0]
        for level, bucket in self.buckets.items():
            if level in levels and bucket.documents:
                shares = bucket.share(is_hit, self.confidence)
                for index, share in enumerate(shares):
                    totals[index] += bucket.documents * share
        return tuple(totals)

    def _precision(self, levels: set[int], is_hit: Test) -> Json | None:
        total = sum(self.buckets[level].documents for level in levels)
        if not total:
            return None
        hits, low, high = self._hits(levels, is_hit)
        return _rate(hits / total, low / total, high / total)

    def _recall(self, levels: set[int], is_hit: Test) -> Json | None:
        """Return the share in the given buckets of all that the judge would call a hit.

        The interval combines the worst ends of every bucket's own, so it is wide: 50 safe pages
        without a miss still leave room for misses among a million.
        """
        found, found_low, found_high = self._hits(levels, is_hit)
        missed, missed_low, missed_high = self._hits(set(self.buckets) - levels, is_hit)
        if not found + missed:
            return None
        fewest, most = found_low + missed_high, found_high + missed_low
        low = found_low / fewest if fewest else 0.0
        high = found_high / most if most else 1.0
        return _rate(found / (found + missed), low, high)


def audit(predicted: Mapping[int, int], rows: Iterable[tuple[int, int]], confidence: float) -> Json:
    """Return audit.json.

    `predicted` has the number of documents of each predicted score, `rows` the (predicted, judged)
    pairs of the sample.
    """
    judged: dict[int, list[int]] = {level: [] for level in range(SCORE_LEVELS)}
    for score, judge in rows:
        judged[score].append(judge)
    buckets = {level: Bucket(predicted.get(level, 0), scores) for level, scores in judged.items()}
    result = Audit(buckets, confidence)
    return {
        "documents": sum(predicted.values()),
        "audited": sum(map(len, judged.values())),
        "confidence": confidence,
        "buckets": [result.bucket_metrics(level) for level in range(SCORE_LEVELS)],
        "levels": [result.level_metrics(level) for level in range(1, SCORE_LEVELS)],
    }


def _rate(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": round(value, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}


def write_audit(folder: Path, *, made: Manifest, scores: Path, confidence: float) -> list[str]:
    """Write audit.json, and the judge's grades into the folder `judged`.

    Returns the lines that the stage prints.
    """
    link_files(made, folder / "judged")
    predicted: Counter[int | None] = Counter()
    for table in tables(scores, ["score"]):
        predicted.update(table["score"].to_pylist())
    known = {score: count for score, count in predicted.items() if score is not None}
    rows: list[tuple[int, int]] = []
    for table in tables(folder / "judged"):
        rows += zip(table["predicted"].to_pylist(), table["score"].to_pylist(), strict=True)
    result = audit(known, rows, confidence)
    (folder / "audit.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return [f"{'audit':<18} {line}" for line in _summary(result)]


def _summary(result: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each predicted score."""
    for row in result["buckets"]:
        if row["audited"]:
            rate = row["precision"]
            yield (
                f"predicted {row['predicted']}: {row['documents']:,} documents, "
                f"{row['audited']:,} audited, {rate['value']:.0%} confirmed "
                f"({rate['low']:.0%} to {rate['high']:.0%})"
            )
