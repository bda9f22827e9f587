"""Rates with intervals: Wilson's for one model, widened for the spread between seeds.

Prompts for the same act are not independent, so these intervals are somewhat too narrow. Seeds of
one mixture answer the same prompts: they count as the prompts of one seed, and the spread between
seeds widens the interval. With a single seed that spread is unknown, and the report says so.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from statistics import NormalDist, fmean, stdev
from typing import Any

Counts = tuple[int, int]  # (count, of)

# Digits of a number in a JSON file; further ones differ between mathematics libraries.
DIGITS = 6


@dataclass(frozen=True)
class Rate:
    """A share `count / of` with its interval.

    `value` is None where nothing was counted. `seeds` holds the value of each seed where several
    were pooled. A number that is no share, such as a perplexity, has `of` 0 and no interval.
    """

    count: int
    of: int
    value: float | None
    low: float | None
    high: float | None
    seeds: tuple[float, ...] = ()

    def json(self) -> dict[str, Any]:
        """Return the rate as summary.json shows it."""
        values: dict[str, Any] = {
            "value": rounded(self.value),
            "count": self.count,
            "of": self.of,
            "low": rounded(self.low),
            "high": rounded(self.high),
        }
        # One seed is the value itself, so only pooled rates list theirs.
        if self.seeds:
            values["seeds"] = [rounded(seed) for seed in self.seeds]
        return values


def rounded(value: float | None) -> float | None:
    """Round to `DIGITS`, without a negative zero."""
    # Adding 0 turns -0.0 into 0.0.
    return None if value is None else round(value, DIGITS) + 0.0


def rounded_interval(value: float, low: float, high: float) -> dict[str, float]:
    """Return an estimate and its interval as metrics files hold them."""
    return {
        "value": round(value, DIGITS),
        "low": round(low, DIGITS),
        "high": round(high, DIGITS),
    }


def z_score(confidence: float) -> float:
    """Return the normal quantile of a two-sided interval, such as 1.96 for 0.95."""
    return NormalDist().inv_cdf((1 + confidence) / 2)


def wilson(count: float, of: float, confidence: float) -> tuple[float, float]:
    """Compute Wilson's score interval of a proportion (Wilson 1927).

    Counts need not be whole numbers, which is why scipy's `proportion_ci` does not serve here.

    Raises:
        ValueError: unless 0 <= count <= of and of > 0.
    """
    if not 0 <= count <= of or of <= 0:
        raise ValueError(f"wilson: expected 0 <= count <= of and of > 0 (got {count} of {of})")
    z = z_score(confidence)
    share = count / of
    weight = z * z / of
    scale = 1 + weight
    centre = (share + weight / 2) / scale
    variance = share * (1 - share) / of
    half = z / scale * sqrt(variance + weight / (4 * of))
    # Rounding may leave the ends a little off 0 and 1, where they are exact.
    low = 0.0 if count == 0 else max(0.0, centre - half)
    high = 1.0 if count == of else min(1.0, centre + half)
    return low, high


def rate(count: int, of: int, confidence: float) -> Rate:
    """Compute a rate with Wilson's interval."""
    if of == 0:
        return Rate(0, 0, None, None, None)
    low, high = wilson(count, of, confidence)
    return Rate(count, of, count / of, low, high)


def overdispersion(counts: Sequence[Counts]) -> float:
    """Compare the spread between seeds with that of draws from one proportion; at least 1.

    This is Pearson's chi-square by its degrees of freedom, the quasi-binomial correction of
    McCullagh and Nelder (1989, §4.5): dividing the counts by it widens the interval. Two seeds
    estimate it poorly, but better than the 1 that a pooled count pretends.
    """
    total, total_of = _total(counts)
    share = total / total_of
    # All prompts alike, or a single seed, show no spread.
    if len(counts) < 2 or share in (0.0, 1.0):
        return 1.0
    chi_square = 0.0
    for count, of in counts:
        expected = of * share
        variance = expected * (1 - share)
        chi_square += (count - expected) ** 2 / variance
    # The share was estimated from the same counts, which takes one degree of freedom.
    degrees = len(counts) - 1
    return max(1.0, chi_square / degrees)


def _total(counts: Sequence[Counts]) -> Counts:
    """Add up the counts of several seeds."""
    numerators, denominators = zip(*counts, strict=True)
    return sum(numerators), sum(denominators)


def pooled(counts: Sequence[Counts], confidence: float) -> Rate:
    """Pool the seeds of a mixture, which answered the same prompts.

    The factors by which clusters of prompts and of seeds widen the variance add up, less what both
    count (Cameron, Gelbach and Miller 2011). That of prompts is at most the number of seeds, for
    all seeds may answer alike.
    """
    counted = [(count, of) for count, of in counts if of]
    if not counted:
        return rate(0, 0, confidence)
    total, of = _total(counted)
    # Of one seed there is no spread: the interval is that of its prompts alone.
    if len(counted) == 1:
        return rate(total, of, confidence)
    # Wilson's interval of fewer prompts, by the factor by which the variance grows.
    factor = len(counted) + overdispersion(counted) - 1.0
    low, high = wilson(total / factor, of / factor, confidence)
    seeds = tuple(count / of for count, of in counted)
    return Rate(total, of, total / of, low, high, seeds)


def averaged(values: Sequence[Sequence[float]], confidence: float) -> tuple[float, float, float]:
    """Average (value, low, high) over seeds, for a number from 0 to 1 that is no count.

    The interval of one seed stays, since all seeds read the same pages; the spread between seeds
    is added to it.
    """
    centres, lows, highs = zip(*values, strict=True)
    value = fmean(centres)
    low = fmean(lows)
    high = fmean(highs)
    if len(values) < 2:
        return value, low, high
    spread = z_score(confidence) * stdev(centres) / sqrt(len(values))
    # Independent errors add up in their squares.
    below = hypot(value - low, spread)
    above = hypot(high - value, spread)
    return value, max(0.0, value - below), min(1.0, value + above)


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, or None of an empty sequence."""
    return fmean(values) if values else None
