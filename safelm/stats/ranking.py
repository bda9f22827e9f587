"""How well probabilities tell unsafe from safe: the area under the ROC curve with its interval, and
calibration.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log, sqrt
from statistics import NormalDist
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelm.stats.classification import DIGITS, ratio

BINS = 10
Values = NDArray[np.float64]


@dataclass(frozen=True)
class Auroc:
    """The chance that an unsafe document is ranked above a safe one, with DeLong's interval (1988)."""

    value: float
    low: float
    high: float
    unsafe: int
    safe: int

    def json(self) -> dict[str, Any]:
        """As a metrics file shows it."""
        rates = {name: round(getattr(self, name), DIGITS) for name in ("value", "low", "high")}
        return {**rates, "unsafe": self.unsafe, "safe": self.safe}


def auroc(is_unsafe: Sequence[bool], scores: Sequence[float], confidence: float) -> Auroc | None:
    """The area and its interval, made on the logit scale to stay within 0 and 1; None where a class
    is empty.
    """
    parts = _placements(is_unsafe, scores)
    if parts is None:
        return None
    value, (unsafe, safe) = float(parts[0].mean()), parts
    error = sqrt(_variance(unsafe) + _variance(safe))
    if value in (0.0, 1.0) or error == 0.0:
        low, high = (value, value) if error == 0.0 and value not in (0.0, 1.0) else (0.0, 1.0)
        return Auroc(value, low, high, len(unsafe), len(safe))
    half = _z(confidence) * error / (value * (1 - value))
    logit = log(value / (1 - value))
    low, high = (1 / (1 + exp(-edge)) for edge in (logit - half, logit + half))
    return Auroc(value, low, high, len(unsafe), len(safe))


def auroc_gain(
    is_unsafe: Sequence[bool], first: Sequence[float], second: Sequence[float], confidence: float
) -> tuple[float, float, float] | None:
    """(area of `first` - area of `second`, low, high) on the same documents: DeLong's paired
    interval.
    """
    ours, theirs = _placements(is_unsafe, first), _placements(is_unsafe, second)
    if ours is None or theirs is None:
        return None
    gain = float(ours[0].mean() - theirs[0].mean())
    half = _z(confidence) * sqrt(sum(_variance(a - b) for a, b in zip(ours, theirs, strict=True)))
    return gain, gain - half, gain + half


def _placements(is_unsafe: Sequence[bool], scores: Sequence[float]) -> tuple[Values, Values] | None:
    """For each unsafe document the share of safe ones below, for each safe one that of unsafe ones
    above; ties half.
    """
    mask, values = np.array(is_unsafe, dtype=bool), np.array(scores, dtype=np.float64)
    unsafe, safe = values[mask], values[~mask]
    if not len(unsafe) or not len(safe):
        return None
    return _below(unsafe, np.sort(safe)), 1.0 - _below(safe, np.sort(unsafe))


def _below(values: Values, ordered: Values) -> Values:
    sides = np.searchsorted(ordered, values, "left") + np.searchsorted(ordered, values, "right")
    return sides / (2.0 * len(ordered))


def _variance(placements: Values) -> float:
    return float(placements.var(ddof=1) / len(placements)) if len(placements) > 1 else 0.0


def _z(confidence: float) -> float:
    return NormalDist().inv_cdf((1 + confidence) / 2)


def reliability(is_unsafe: Sequence[bool], chances: Sequence[float]) -> list[dict[str, Any]]:
    """The reliability curve: of documents whose chance falls in a tenth, its mean and the share
    that is unsafe.
    """
    rows = []
    places = np.minimum((np.array(chances) * BINS).astype(int), BINS - 1)
    for place in range(BINS):
        chosen = np.flatnonzero(places == place)
        if len(chosen):
            predicted, observed = (
                np.array(chances)[chosen].mean(),
                np.array(is_unsafe)[chosen].sum(),
            )
            rows.append(
                {
                    "predicted": round(float(predicted), DIGITS),
                    "observed": ratio(int(observed), len(chosen)),
                    "documents": len(chosen),
                }
            )
    return rows


def calibration_error(curve: Sequence[dict[str, Any]]) -> float | None:
    """The expected calibration error: the mean distance of the curve from the diagonal, by
    documents.
    """
    total = sum(row["documents"] for row in curve)
    return ratio(
        sum(abs(row["predicted"] - row["observed"]) * row["documents"] for row in curve), total
    )
