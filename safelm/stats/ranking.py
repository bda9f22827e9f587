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
from safelm.stats.rates import DIGITS, z_score

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
        area = {name: round(getattr(self, name), DIGITS) for name in ("value", "low", "high")}
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
        return Auroc(value, 0.0, 1.0, len(unsafe), len(safe))
    # Without a spread within either class there is none to estimate an interval from.
    if error == 0.0:
        return Auroc(value, value, value, len(unsafe), len(safe))
    half = z_score(confidence) * error / (value * (1 - value))
    logit = log(value / (1 - value))
    low, high = (1 / (1 + exp(-edge)) for edge in (logit - half, logit + half))
    return Auroc(value, low, high, len(unsafe), len(safe))


def auroc_gain(
    is_unsafe: Sequence[bool], first: Sequence[float], second: Sequence[float], confidence: float
) -> tuple[float, float, float] | None:
    """Compare two rankings of the same documents by DeLong's paired interval.

    Returns (area of `first` - area of `second`, low, high), or None where a class is empty.
    """
    ours, theirs = _placements(is_unsafe, first), _placements(is_unsafe, second)
    if ours is None or theirs is None:
        return None
    gain = float(ours[0].mean() - theirs[0].mean())
    variance = sum(_variance(a - b) for a, b in zip(ours, theirs, strict=True))
    half = z_score(confidence) * sqrt(variance)
    return gain, gain - half, gain + half


def _placements(is_unsafe: Sequence[bool], scores: Sequence[float]) -> tuple[Values, Values] | None:
    """Return the share of safe documents below each unsafe one, and of unsafe ones above each safe.

    Ties count half.
    """
    mask, values = np.array(is_unsafe, dtype=bool), np.array(scores, dtype=np.float64)
    unsafe, safe = values[mask], values[~mask]
    if not len(unsafe) or not len(safe):
        return None
    return _share_below(unsafe, np.sort(safe)), 1.0 - _share_below(safe, np.sort(unsafe))


def _share_below(values: Values, ordered: Values) -> Values:
    left = np.searchsorted(ordered, values, "left")
    right = np.searchsorted(ordered, values, "right")
    return (left + right) / (2.0 * len(ordered))


def _variance(placements: Values) -> float:
    if len(placements) < 2:
        return 0.0
    return float(placements.var(ddof=1) / len(placements))


def reliability(is_unsafe: Sequence[bool], probabilities: Sequence[float]) -> list[dict[str, Any]]:
    """Compute the reliability curve, in bins of a tenth.

    Each bin that holds documents has their mean predicted probability, the observed share of unsafe
    ones, and their number.
    """
    actual, predicted = np.array(is_unsafe), np.array(probabilities)
    bins = np.minimum((predicted * BINS).astype(int), BINS - 1)
    curve = []
    for index in np.unique(bins):
        inside = bins == index
        point = {
            "predicted": round(float(predicted[inside].mean()), DIGITS),
            "observed": ratio(int(actual[inside].sum()), int(inside.sum())),
            "documents": int(inside.sum()),
        }
        curve.append(point)
    return curve


def calibration_error(curve: Sequence[dict[str, Any]]) -> float | None:
    """Compute the expected calibration error: the mean distance from the diagonal, by documents."""
    total = sum(row["documents"] for row in curve)
    distances = (abs(row["predicted"] - row["observed"]) * row["documents"] for row in curve)
    return ratio(sum(distances), total)
