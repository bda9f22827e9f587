"""Metrics of fitted scorers against the judge's labels, and of all scorers against the source's.

The judge is measured against the source as well: that is the quality of the labels themselves.
"""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from safelm.builder.files import Json
from safelm.scoring.base import Grades
from safelm.scoring.ensemble import ensemble_score
from safelm.scoring.labels import Label, Split
from safelm.scoring.ngrams import MIN_LABELS
from safelm.stats.classification import baseline, measures
from safelm.stats.ranking import auroc, auroc_gain, calibration_error, reliability
from safelm.stats.rates import rounded_interval
from specs.spec import SCORE_LEVELS

CONFIDENCE = 0.95


def describe_labels(labels: Sequence[Label]) -> Json:
    """Return the content of labels.json: counts, and the labels against those of others.

    `known` are the source's labels. A pool of several rows has its counts as `pool`, and labellers
    that stand beside the judge theirs as `beside`.
    """
    scores = Counter(label.score for label in labels)
    hazards = Counter(label.hazard for label in labels if label.hazard)
    known = [(label.label, label.score) for label in labels if label.label is not None]
    described: Json = {
        "documents": len(labels),
        "scores": [scores[score] for score in range(SCORE_LEVELS)],
        "hazards": dict(sorted(hazards.items())),
        "known": measures(known) if known else None,
    }
    rows = Counter(label.pool for label in labels if label.pool)
    if rows:
        described["pool"] = dict(sorted(rows.items()))
    pairs: dict[str, list[tuple[int, int]]] = defaultdict(list)
    for label in labels:
        for name, score in label.beside.items():
            if score is not None:
                pairs[name].append((score, label.score))
    if pairs:
        described["beside"] = {name: measures(pairs[name]) for name in sorted(pairs)}
    return described


def measure_scorers(
    split: Split,
    grades_by_scorer: Mapping[str, Grades],
    *,
    judge: str,
    rule: str,
    thresholds: Mapping[str, int],
) -> Json:
    """Return the content of held_out.json, without the cascades.

    Grades are in the order of the held-out labels. Every scorer but the judge itself is measured
    against the judge's labels, and all of them against the source's. `rule` and `thresholds` are
    those of the ensemble.
    """
    train, held_out = split
    metrics: Json = {
        "train": len(train),
        "held_out": len(held_out),
        "note": describe_shortage(split),
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
        metrics["baseline"] = {"auroc": _auroc_json(is_unsafe, reference)}
    for name, grades in grades_by_scorer.items():
        # The judge would agree with its own labels everywhere.
        if name != judge:
            metrics["scorers"][name] = measure_against_judge(held_out, grades, reference)
    metrics["known"] = measure_against_source(held_out, grades_by_scorer, rule, thresholds)
    return metrics


def measure_against_judge(
    held_out: Sequence[Label], grades: Grades, reference: Sequence[float] | None
) -> Json:
    """Measure one scorer against the judge's labels.

    Of a classifier, AUROC and calibration of P(score > 0) are measured too. `reference` holds the
    baseline's probabilities of all held-out labels; `gain` is the AUROC above the baseline's.
    """
    indices = [index for index, grade in enumerate(grades) if grade]
    graded = [grade for grade in grades if grade]
    scores = [held_out[index].score for index in indices]
    predicted = [grade.score for grade in graded]
    metrics = measures(zip(scores, predicted, strict=True))
    metrics["ungraded"] = len(held_out) - len(graded)
    probabilities = [1.0 - grade.probabilities[0] for grade in graded if grade.probabilities]
    # Judges give no probabilities.
    if not graded or len(probabilities) < len(graded):
        return metrics
    is_unsafe = [score > 0 for score in scores]
    curve = reliability(is_unsafe, probabilities)
    gain = None
    if reference:
        # DeLong's interval compares two rankings of the same documents.
        references = [reference[index] for index in indices]
        gain = auroc_gain(is_unsafe, probabilities, references, CONFIDENCE)
    return {
        **metrics,
        "auroc": _auroc_json(is_unsafe, probabilities),
        "gain": gain and rounded_interval(*gain),
        "calibration_error": calibration_error(curve),
        "reliability": curve,
    }


def _auroc_json(is_unsafe: Sequence[bool], probabilities: Sequence[float]) -> Json | None:
    area = auroc(is_unsafe, probabilities, CONFIDENCE)
    return area.json() if area else None


def measure_against_source(
    held_out: Sequence[Label],
    grades_by_scorer: Mapping[str, Grades],
    rule: str,
    thresholds: Mapping[str, int],
) -> Json | None:
    """Measure judge, scorers and ensemble on the documents that the source labels.

    Returns None if there are none.
    """
    scores: dict[str, list[int | None]] = {"judge": [label.score for label in held_out]}
    for name, grades in grades_by_scorer.items():
        scores[name] = [grade and grade.score for grade in grades]
    scores["ensemble"] = [
        ensemble_score(rule, dict(zip(scores, row, strict=True)), thresholds)
        for row in zip(*scores.values(), strict=True)
    ]
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


def describe_shortage(split: Split) -> str | None:
    """Return a sentence that says why nothing was fitted or measured, else None."""
    total = len(split.train) + len(split.held_out)
    scores = {label.score for label in split.train}
    if total < MIN_LABELS:
        return f"Only {total} labels: nothing was fitted or measured."
    if len(scores) < 2:
        return (
            f"All {total} labels are alike: nothing was fitted, "
            f"every document gets the score {max(scores)}."
        )
    if not split.held_out:
        return (
            f"No class of the {total} labels is large enough to hold one back: "
            "nothing was measured."
        )
    return None
