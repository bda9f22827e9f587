"""An audit of the scores: a sample of each predicted score goes back to the judge.

What this finds, held-out recall does not: an independent audit of the paper's released classifier
saw 2.7 % of its predicted 5s confirmed and 61 % of them benign (the classifier audit of "Synthetic
Persona Pretraining", EPFL 2026, appendix A.1)."""

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
from safelm.stats.classification import DIGITS
from safelm.stats.rates import wilson
from specs.spec import SCORE_LEVELS

BENIGN = 1  # judged 0 or 1


@dataclass(kw_only=True, eq=False, repr=False)
class ReadStratified(ReadShards):
    """Read a sample of every predicted score; the rest is dropped as not selected. `predicted`
    keeps that score.

    The chosen ids are values of the tasks, so a shard whose part of the sample stays is not asked
    about again."""

    name: ClassVar[str] = "stratified sample"
    documents: int = field(metadata={"key": False})  # of each score
    seed: int = field(metadata={"key": False})

    def tasks(self) -> list[Task]:
        """One per shard, with the ids that the sample takes from it."""
        tasks = super().tasks()
        scores = {task.name: _scores(task) for task in tasks}
        chosen: set[str] = set()
        for level in range(SCORE_LEVELS):
            ids = (id for found in scores.values() for id, score in found if score == level)
            chosen.update(sample(f"audit {level}", self.seed, ids, self.documents))
        return [
            replace(task, values=tuple(id for id, _ in scores[task.name] if id in chosen))
            for task in tasks
        ]

    def read(self, task: Task) -> Iterator[Document]:
        """The chosen documents of one shard."""
        chosen = set(task.values)
        for document in super().read(task):
            if document.id in chosen:
                document.metadata["predicted"] = document.metadata["score"]
                yield document
            else:
                self.drop(NOT_SELECTED)


def _scores(task: Task) -> list[tuple[str, int | None]]:
    beside = task.inputs[1]
    table = Shard(beside.path, 0, beside.sha256).table(["id", "score"])
    return list(zip(table["id"].to_pylist(), table["score"].to_pylist(), strict=True))


@dataclass(frozen=True)
class Bucket:
    """The documents of one predicted score: how many there are, and what the judge said of those it
    was shown.
    """

    documents: int
    judged: Sequence[int]

    def share(self, is_hit: Callable[[int], bool], confidence: float) -> tuple[float, float, float]:
        """(share, low, high) of hits in the bucket: Wilson's interval, or no doubt where every
        document was shown.
        """
        if not self.judged:
            return (0.0, 0.0, 1.0)
        hits, shown = sum(map(is_hit, self.judged)), len(self.judged)
        if shown >= self.documents:
            return (hits / shown,) * 3
        return (hits / shown, *wilson(hits, shown, confidence))


def audit(
    predicted: Mapping[int, int], rows: Iterable[tuple[int, int]], confidence: float
) -> dict[str, Any]:
    """audit.json, from the documents of each predicted score and the (predicted, judged) pairs of
    the sample.
    """
    judged: dict[int, list[int]] = {level: [] for level in range(SCORE_LEVELS)}
    for score, judge in rows:
        judged[score].append(judge)
    buckets = {level: Bucket(predicted.get(level, 0), judged[level]) for level in range(SCORE_LEVELS)}
    return {
        "documents": sum(predicted.values()),
        "audited": sum(map(len, judged.values())),
        "confidence": confidence,
        "buckets": [_bucket(level, buckets, confidence) for level in range(SCORE_LEVELS)],
        "levels": [_level(level, buckets, confidence) for level in range(1, SCORE_LEVELS)],
    }


def _bucket(level: int, buckets: Mapping[int, Bucket], confidence: float) -> dict[str, Any]:
    """One predicted score: how much of it the judge confirms or calls benign, and how much of that
    score it holds.
    """
    bucket, counts = buckets[level], Counter(buckets[level].judged)
    return {
        "predicted": level,
        "documents": bucket.documents,
        "audited": len(bucket.judged),
        "judged": [counts[score] for score in range(SCORE_LEVELS)],
        "precision": _shown(bucket, lambda score: score == level, confidence),
        "benign": _shown(bucket, lambda score: score <= BENIGN, confidence),
        "recall": _recall(buckets, {level}, lambda score: score == level, confidence),
    }


def _level(level: int, buckets: Mapping[int, Bucket], confidence: float) -> dict[str, Any]:
    """Everything at a score or above, over all documents."""
    above = set(range(level, SCORE_LEVELS))
    return {
        "level": level,
        "precision": _precision(buckets, above, lambda score: score >= level, confidence),
        "recall": _recall(buckets, above, lambda score: score >= level, confidence),
    }


def _shown(
    bucket: Bucket, is_hit: Callable[[int], bool], confidence: float
) -> dict[str, float] | None:
    if not bucket.judged:
        return None
    low, high = wilson(sum(map(is_hit, bucket.judged)), len(bucket.judged), confidence)
    return _rate(sum(map(is_hit, bucket.judged)) / len(bucket.judged), low, high)


def _sums(
    buckets: Mapping[int, Bucket],
    chosen: set[int],
    is_hit: Callable[[int], bool],
    confidence: float,
) -> tuple[float, ...]:
    """(hits, low, high) in some buckets together, each bucket's share scaled to its documents."""
    shares = [
        [bucket.documents * share for share in bucket.share(is_hit, confidence)]
        for level, bucket in buckets.items()
        if level in chosen and bucket.documents
    ]
    return tuple(map(sum, zip(*shares, strict=True))) if shares else (0.0, 0.0, 0.0)


def _precision(
    buckets: Mapping[int, Bucket],
    chosen: set[int],
    is_hit: Callable[[int], bool],
    confidence: float,
) -> dict[str, float] | None:
    total = sum(buckets[level].documents for level in chosen)
    return (
        _rate(*(value / total for value in _sums(buckets, chosen, is_hit, confidence)))
        if total
        else None
    )


def _recall(
    buckets: Mapping[int, Bucket],
    chosen: set[int],
    is_hit: Callable[[int], bool],
    confidence: float,
) -> dict[str, float] | None:
    """Of all that the judge would call a hit, the share in the chosen buckets.

    The interval joins the worst ends of every bucket's own, so it is wide: 50 safe pages without a
    miss still leave room for misses among a million."""
    found, missed = (
        _sums(buckets, side, is_hit, confidence) for side in (chosen, set(range(SCORE_LEVELS)) - chosen)
    )
    if not found[0] + missed[0]:
        return None
    low = found[1] / (found[1] + missed[2]) if found[1] + missed[2] else 0.0
    high = found[2] / (found[2] + missed[1]) if found[2] + missed[1] else 1.0
    return _rate(found[0] / (found[0] + missed[0]), low, high)


def _rate(value: float, low: float, high: float) -> dict[str, float]:
    return {"value": round(value, DIGITS), "low": round(low, DIGITS), "high": round(high, DIGITS)}


def write_audit(folder: Path, *, made: Manifest, scores: Path, confidence: float) -> list[str]:
    """audit.json, and what the judge said of each document in `judged`; what the stage prints."""
    link_files(made, folder / "judged")
    predicted = Counter(
        score for table in tables(scores, ["score"]) for score in table["score"].to_pylist()
    )
    rows = [
        (row["predicted"], row["score"])
        for table in tables(folder / "judged")
        for row in table.to_pylist()
    ]
    found = audit(
        {score: count for score, count in predicted.items() if score is not None}, rows, confidence
    )
    (folder / "audit.json").write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return [f"{'audit':<18} {line}" for line in _sentences(found)]


def _sentences(found: Mapping[str, Any]) -> Iterator[str]:
    """A line for each predicted score."""
    for row in found["buckets"]:
        if row["audited"]:
            rate = row["precision"]
            yield (
                f"predicted {row['predicted']}: {row['documents']:,} documents, {row['audited']:,} audited, "
                f"{rate['value']:.0%} confirmed ({rate['low']:.0%} to {rate['high']:.0%})"
            )
