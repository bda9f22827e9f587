"""Ranking of unsafe above safe documents: the area under the ROC curve, and calibration.

scikit-learn has the area but not its interval, so DeLong's (1988) is computed here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelm.stats.classification import ratio
from safelm.stats.rates import DIGITS, rounded_interval, z_score

BINS = 10
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Auroc:
    """The probability that an unsafe document ranks above a safe one, with DeLong's interval."""

    value: float
    low: float
    high: float
    unsafe: int
    safe: int

    def json(self) -> dict[str, Any]:
        """Return the area as a metrics file shows it."""
        area = rounded_interval(self.value, self.low, self.high)
        return {**area, "unsafe": self.unsafe, "safe": self.safe}


def auroc(is_unsafe: Sequence[bool], scores: Sequence[float], confidence: float) -> Auroc | None:
    """Compute the area and its interval; None where a class is empty.

    The interval is made on the logit scale, which keeps it within 0 and 1. A perfect ranking has
    no spread to estimate one from, so its interval is the whole range.
    """
    placements = _placements(is_unsafe, scores)
    if placements is None:
        return None
    unsafe, safe = placements
    value = float(unsafe.mean())
    error = sqrt(_variance(unsafe) + _variance(safe))
    if value in (0.0, 1.0):
        low = 0.0
        high = 1.0
    elif error == 0.0:
        # Without a spread within either class there is none to estimate an interval from.
        low = value
        high = value
    else:
        logit = log(value / (1 - value))
        # The error on the logit scale, by the slope of the logit at `value`.
        slope = value * (1 - value)
        half = z_score(confidence) * error / slope
        low = _logistic(logit - half)
        high = _logistic(logit + half)
    return Auroc(value, low, high, len(unsafe), len(safe))


def _logistic(logit: float) -> float:
    return 1 / (1 + exp(-logit))


def auroc_gain(
    is_unsafe: Sequence[bool],
    first: Sequence[float],
    second: Sequence[float],
    confidence: float,
) -> tuple[float, float, float] | None:
    """Compare two rankings of the same documents by DeLong's paired interval.

    Returns (area of `first` - area of `second`, low, high), or None where a class is empty.
    """
    ours = _placements(is_unsafe, first)
    theirs = _placements(is_unsafe, second)
    if ours is None or theirs is None:
        return None
    unsafe, safe = (one - other for one, other in zip(ours, theirs, strict=True))
    gain = float(ours[0].mean() - theirs[0].mean())
    # The variances of the differences, so that what both rankings share cancels out.
    error = sqrt(_variance(unsafe) + _variance(safe))
    half = z_score(confidence) * error
    return gain, gain - half, gain + half


def _placements(is_unsafe: Sequence[bool], scores: Sequence[float]) -> tuple[Values, Values] | None:
    """Return the share of safe documents below each unsafe one, and of unsafe ones above each safe.

    Ties count half.
    """
    mask = np.array(is_unsafe, dtype=bool)
    values = np.array(scores, dtype=np.float64)
    unsafe = values[mask]
    safe = values[~mask]
    if not len(unsafe) or not len(safe):
        return None
    below = _share_below(unsafe, np.sort(safe))
    not_above = _share_below(safe, np.sort(unsafe))
    return below, 1.0 - not_above


def _share_below(values: Values, ordered: Values) -> Values:
    left = np.searchsorted(ordered, values, "left")
    right = np.searchsorted(ordered, values, "right")
    # The mean of both counts ties half.
    return (left + right) / (2.0 * len(ordered))


def _variance(placements: Values) -> float:
    """Return the variance of the mean; a single placement shows none."""
    if len(placements) < 2:
        return 0.0
    variance = placements.var(ddof=1)
    return float(variance / len(placements))


def reliability(is_unsafe: Sequence[bool], probabilities: Sequence[float]) -> list[dict[str, Any]]:
    """Compute the reliability curve, in bins of a tenth.

    Each bin that holds documents has their mean predicted probability, the observed share of unsafe
    ones, and their number.
    """
    actual = np.array(is_unsafe)
    predicted = np.array(probabilities)
    # A probability of 1 belongs to the last bin.
    bins = np.minimum((predicted * BINS).astype(int), BINS - 1)
    curve = []
    for index in np.unique(bins):
        inside = bins == index
        documents = int(inside.sum())
        mean = float(predicted[inside].mean())
        unsafe = int(actual[inside].sum())
        point = {
            "predicted": round(mean, DIGITS),
            "observed": ratio(unsafe, documents),
            "documents": documents,
        }
        curve.append(point)
    return curve


def calibration_error(curve: Sequence[dict[str, Any]]) -> float | None:
    """Compute the expected calibration error: the mean distance from the diagonal, by documents."""
    total = 0
    distances = 0.0
    for row in curve:
        documents = row["documents"]
        distance = abs(row["predicted"] - row["observed"])
        total += documents
        distances += distance * documents
    return ratio(distances, total)
