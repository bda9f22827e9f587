"""Metrics of fitted scorers: against the judge's labels, and against those of the source.

Also the quality of the labels themselves: the judge against the source.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from safelm.scoring.base import Grades
from safelm.scoring.ensemble import ensemble_score
from safelm.scoring.labels import Label
from safelm.scoring.ngrams import MIN_LABELS
from safelm.stats.classification import baseline, measures
from safelm.stats.ranking import auroc, auroc_gain, calibration_error, reliability
from safelm.stats.rates import DIGITS
from specs.spec import SCORE_LEVELS

CONFIDENCE = 0.95
Json = dict[str, Any]


def describe_labels(labels: Sequence[Label]) -> Json:
    """Return labels.json: counts by score and hazard, and the judge against the source's labels."""
    scores = Counter(label.score for label in labels)
    hazards = Counter(label.hazard for label in labels if label.hazard)
    known = [(label.label, label.score) for label in labels if label.label is not None]
    return {
        "documents": len(labels),
        "scores": [scores[score] for score in range(SCORE_LEVELS)],
        "hazards": dict(sorted(hazards.items())),
        "known": measures(known) if known else None,
    }


def measure_scorers(
    train: Sequence[Label],
    held_out: Sequence[Label],
    columns: Mapping[str, Grades],
    *,
    judge: str,
    rule: str,
    thresholds: Mapping[str, int],
) -> Json:
    """Return held_out.json, without the cascades.

    `columns` are the scorers' grades, in the order of `held_out`. Every scorer but the judge itself
    is measured against the judge's labels, and all columns against the source's.
    """
    metrics: Json = {
        "train": len(train),
        "held_out": len(held_out),
        "note": describe_shortage(train, held_out),
        "baseline": None,
        "scorers": {},
        "known": None,
    }
    if not held_out or len(train) + len(held_out) < MIN_LABELS:
        return metrics
    reference = baseline(
        [label.text for label in train],
        [label.score > 0 for label in train],
        [label.text for label in held_out],
    )
    if reference:
        is_unsafe = [label.score > 0 for label in held_out]
        metrics["baseline"] = {"auroc": _area(is_unsafe, reference)}
    for name, grades in columns.items():
        if name != judge:
            metrics["scorers"][name] = measure_against_judge(held_out, grades, reference)
    metrics["known"] = measure_against_source(held_out, columns, rule, thresholds)
    return metrics


def measure_against_judge(
    held_out: Sequence[Label], grades: Grades, reference: Sequence[float] | None
) -> Json:
    """Measure one scorer; for a classifier also the ranking of its P(score > 0), and calibration.

    `reference` are the baseline's probabilities for the same pages; `gain` is the scorer's area
    above the baseline's.
    """
    graded = [index for index, grade in enumerate(grades) if grade]
    rows = [(held_out[index].score, grade) for index, grade in enumerate(grades) if grade]
    metrics = measures((score, grade.score) for score, grade in rows)
    metrics["ungraded"] = len(held_out) - len(rows)
    probabilities = [1.0 - grade.probabilities[0] for _, grade in rows if grade.probabilities]
    if not rows or len(probabilities) < len(rows):
        return metrics
    is_unsafe = [score > 0 for score, _ in rows]
    curve = reliability(is_unsafe, probabilities)
    gain = None
    if reference:
        references = [reference[index] for index in graded]
        gain = auroc_gain(is_unsafe, probabilities, references, CONFIDENCE)
    return {
        **metrics,
        "auroc": _area(is_unsafe, probabilities),
        "gain": gain and _interval(gain),
        "calibration_error": calibration_error(curve),
        "reliability": curve,
    }


def _area(is_unsafe: Sequence[bool], probabilities: Sequence[float]) -> Json | None:
    area = auroc(is_unsafe, probabilities, CONFIDENCE)
    return area.json() if area else None


def _interval(values: Iterable[float]) -> Json:
    rounded = [round(value, DIGITS) for value in values]
    return dict(zip(("value", "low", "high"), rounded, strict=True))


def measure_against_source(
    held_out: Sequence[Label],
    columns: Mapping[str, Grades],
    rule: str,
    thresholds: Mapping[str, int],
) -> Json | None:
    """Measure each column on the documents that the source labels; None if there are none."""
    scores: dict[str, list[int | None]] = {"judge": [label.score for label in held_out]}
    for name, grades in columns.items():
        scores[name] = [grade and grade.score for grade in grades]
    rows = [dict(zip(scores, row, strict=True)) for row in zip(*scores.values(), strict=True)]
    scores["ensemble"] = [ensemble_score(rule, row, thresholds) for row in rows]
    labels = [label.label for label in held_out]
    pairs = {name: _known_pairs(labels, column) for name, column in scores.items()}
    if not any(pairs.values()):
        return None
    return {name: measures(known) for name, known in pairs.items()}


def _known_pairs(
    labels: Sequence[int | None], scores: Sequence[int | None]
) -> list[tuple[int, int]]:
    return [
        (label, score)
        for label, score in zip(labels, scores, strict=True)
        if label is not None and score is not None
    ]


def describe_shortage(train: Sequence[Label], held_out: Sequence[Label]) -> str | None:
    """Return a sentence where there were too few or too uniform labels, else None."""
    total, scores = len(train) + len(held_out), {label.score for label in train}
    if total < MIN_LABELS:
        return f"Only {total} labels: nothing was fitted or measured."
    if len(scores) < 2:
        return (
            f"All {total} labels are alike: nothing was fitted, "
            f"every document gets the score {max(scores)}."
        )
    if not held_out:
        return (
            f"No class of the {total} labels is large enough to hold one back: "
            "nothing was measured."
        )
    return None
