"""Audit of the scores: a judge grades a random sample of the documents of each predicted score.

Recall on held-out labels says little about rare scores. An independent audit of the classifier that
the paper's authors released confirmed 2.7 % of its predicted 5s and found 61 % of them benign
("Synthetic Persona Pretraining", EPFL 2026, appendix A.1).
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import compress
from pathlib import Path

import numpy as np

from safelm.builder.blocks import Block, Documents, Task, unkeyed
from safelm.builder.files import Json, write_json
from safelm.builder.manifest import Manifest
from safelm.builder.shards import tables
from safelm.builder.stage import link_files
from safelm.documents.sample import Candidates, ReadSample
from safelm.documents.shards import input_shards
from safelm.scoring.given_labels import GradeAsGiven
from safelm.stats.rates import rounded_interval, wilson
from specs.spec import SCORE_LEVELS

# "Benign" as that audit counts it: judged 0 or 1.
MAX_BENIGN = 1
LEVELS = np.arange(SCORE_LEVELS)
HitTest = Callable[[int], bool]  # takes the judge's score of a document
Interval = tuple[float, float, float]  # a share from 0 to 1, and its confidence interval


class ReadStratified(ReadSample):
    """Read a random sample of the documents of each predicted score.

    The score is kept in the metadata as `predicted`. If `judge` has given labels, the sample is of
    the documents that have one: these stand for all of a score only if it was no matter of their
    content which of them got a label.
    """

    name = "stratified sample"
    judge: Block = unkeyed()

    def candidates(self, task: Task) -> Candidates:
        """Return the ids of a shard that may be drawn, by their predicted score."""
        documents, scores = input_shards(task)
        known = self.judge.known(documents) if isinstance(self.judge, GradeAsGiven) else None
        ids: dict[str, list[str]] = defaultdict(list)
        for row in scores.table(["id", "score"]).to_pylist():
            # Documents without a score are not audited.
            if row["score"] is not None and (known is None or row["id"] in known):
                ids[f"{self.purpose} {row['score']}"].append(row["id"])
        return ids

    def read(self, task: Task) -> Documents:
        """Yield the sampled documents of one shard."""
        for document in super().read(task):
            document.metadata["predicted"] = document.metadata["score"]
            yield document


@dataclass(frozen=True)
class Bucket:
    """The number of documents of one predicted score, and the judge's scores of its sample."""

    documents: int
    judged: list[int]

    def share_of_sample(self, is_hit: HitTest, confidence: float) -> Interval:
        """Return (share, low, high) of hits in the sample, with Wilson's interval."""
        hits = sum(map(is_hit, self.judged))
        judged = len(self.judged)
        return (hits / judged, *wilson(hits, judged, confidence))

    def share(self, is_hit: HitTest, confidence: float) -> Interval:
        """Estimate (share, low, high) of hits among all documents of the bucket."""
        if not self.judged:
            # Without a sample nothing is known, and the interval says so.
            return (0.0, 0.0, 1.0)
        share, low, high = self.share_of_sample(is_hit, confidence)
        # Where every document was judged, nothing is estimated.
        if len(self.judged) >= self.documents:
            return (share, share, share)
        return (share, low, high)


@dataclass(frozen=True)
class Audit:
    """The buckets by predicted score, and the confidence level of the intervals."""

    buckets: Sequence[Bucket]
    confidence: float

    def bucket_metrics(self, level: int) -> Json:
        """Return the metrics of the documents with one predicted score."""
        bucket = self.buckets[level]
        counts = Counter(bucket.judged)
        return {
            "predicted": level,
            "documents": bucket.documents,
            "audited": len(bucket.judged),
            "judged": [counts[score] for score in range(SCORE_LEVELS)],
            "precision": self._sample_share(bucket, lambda score: score == level),
            "benign": self._sample_share(bucket, lambda score: score <= MAX_BENIGN),
            "recall": self._recall(np.equal(LEVELS, level), lambda score: score == level),
        }

    def level_metrics(self, level: int) -> Json:
        """Return precision and recall, over all documents, of a score of `level` or above."""
        above = np.greater_equal(LEVELS, level)
        return {
            "level": level,
            "precision": self._precision(above, lambda score: score >= level),
            "recall": self._recall(above, lambda score: score >= level),
        }

    def _sample_share(self, bucket: Bucket, is_hit: HitTest) -> Json | None:
        if not bucket.judged:
            return None
        return rounded_interval(*bucket.share_of_sample(is_hit, self.confidence))

    def _hits(self, is_hit: HitTest) -> np.ndarray:
        """Estimate (hits, low, high) among all documents of each bucket."""
        # Every bucket has a sample of its own size, so its share is scaled by its documents.
        shares = [bucket.share(is_hit, self.confidence) for bucket in self.buckets]
        return np.array([bucket.documents for bucket in self.buckets])[:, np.newaxis] * shares

    def _precision(self, is_in: np.ndarray, is_hit: HitTest) -> Json | None:
        total = sum(compress((bucket.documents for bucket in self.buckets), is_in))
        if not total:
            return None
        return rounded_interval(*(self._hits(is_hit)[is_in].sum(axis=0) / total))

    def _recall(self, is_in: np.ndarray, is_hit: HitTest) -> Json | None:
        """Estimate the share of all hits that lie in the given buckets."""
        hits = self._hits(is_hit)
        found, found_low, found_high = hits[is_in].sum(axis=0)
        missed, missed_low, missed_high = hits[~is_in].sum(axis=0)
        if not found + missed:
            return None
        # The worst ends of all intervals together, so the result is wide: 50 safe pages without a
        # miss still leave room for misses among a million.
        fewest, most = found_low + missed_high, found_high + missed_low
        low = found_low / fewest if fewest else 0.0
        high = found_high / most if most else 1.0
        return rounded_interval(found / (found + missed), low, high)


def audit(predicted: Mapping[int, int], rows: Iterable[tuple[int, int]], confidence: float) -> Json:
    """Return the content of audit.json.

    `predicted` counts the documents of each predicted score. `rows` are the pairs
    (predicted score, judge's score) of the sample.
    """
    buckets = [Bucket(predicted.get(level, 0), []) for level in range(SCORE_LEVELS)]
    for score, judged in rows:
        buckets[score].judged.append(judged)
    result = Audit(buckets, confidence)
    return {
        "documents": sum(predicted.values()),
        "audited": sum(len(bucket.judged) for bucket in buckets),
        "confidence": confidence,
        "buckets": [result.bucket_metrics(level) for level in range(SCORE_LEVELS)],
        "levels": [result.level_metrics(level) for level in range(1, SCORE_LEVELS)],
    }


def write_audit(folder: Path, *, made: Manifest, scores: Path, confidence: float) -> list[str]:
    """Write audit.json, and the judge's grades in the folder `judged`.

    Returns the lines that the stage prints.
    """
    link_files(made, folder / "judged")
    predicted: Counter[int] = Counter()
    for table in tables(scores, ["score"]):
        predicted.update(table["score"].drop_null().to_pylist())
    rows: list[tuple[int, int]] = []
    for table in tables(folder / "judged"):
        rows += zip(table["predicted"].to_pylist(), table["score"].to_pylist(), strict=True)
    result = audit(predicted, rows, confidence)
    write_json(folder / "audit.json", result)
    return [f"{'audit':<18} {line}" for line in _summary(result)]


def _summary(result: Json) -> Iterator[str]:
    """Yield a line for each predicted score."""
    for row in result["buckets"]:
        if row["audited"]:
            rate = row["precision"]
            yield (
                f"predicted {row['predicted']}: {row['documents']:,} documents, "
                f"{row['audited']:,} audited, {rate['value']:.0%} confirmed "
                f"({rate['low']:.0%} to {rate['high']:.0%})"
            )
