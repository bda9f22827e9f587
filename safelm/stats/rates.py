"""Rates with their intervals, and what a difference of two of them allows one to say.

The prompts of one act are not independent (which makes an interval too narrow) and models answer
the same prompts (which makes the interval of their difference too wide). Several seeds of a mixture
answer the same prompts too: they count as the prompts of one seed, and the spread found between
seeds widens the interval; with one seed that spread is unknown, and the report says so."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from statistics import NormalDist, fmean, stdev
from typing import Any, Literal

Verdict = Literal["reproduced", "contradicted", "not distinguishable", "not measured"]
DIGITS = 6  # what a JSON file shows of a rate; the last bits differ between mathematics libraries


@dataclass(frozen=True)
class Rate:
    """`count` of `of`, with an interval. `value` is None where nothing was counted (`of` 0).

    `seeds` holds the value of each seed where several were pooled.
    """

    count: int
    of: int
    value: float | None
    low: float | None
    high: float | None
    seeds: tuple[float, ...] = ()

    def json(self) -> dict[str, Any]:
        """As summary.json shows it."""
        shown = {name: _rounded(getattr(self, name)) for name in ("value", "low", "high")}
        spread = {"seeds": [_rounded(seed) for seed in self.seeds]} if self.seeds else {}
        return {"value": shown["value"], "count": self.count, "of": self.of, **shown, **spread}


@dataclass(frozen=True)
class Difference:
    """The difference of two rates and its interval."""

    value: float
    low: float
    high: float

    def json(self) -> dict[str, float | None]:
        """As summary.json shows it."""
        return {
            "value": _rounded(self.value),
            "low": _rounded(self.low),
            "high": _rounded(self.high),
        }


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, DIGITS) + 0.0  # + 0.0: no negative zero


def wilson(count: float, of: float, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a proportion (Wilson 1927). `of` must be above 0; it need not be
    whole.
    """
    if not 0 <= count <= of or of <= 0:
        raise ValueError(f"wilson: expected 0 <= count <= of and of > 0 (got {count} of {of})")
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    share, weight = count / of, z * z / of
    centre = (share + weight / 2) / (1 + weight)
    half = z / (1 + weight) * sqrt(share * (1 - share) / of + weight / (4 * of))
    return (0.0 if count == 0 else max(0.0, centre - half)), (
        1.0 if count == of else min(1.0, centre + half)
    )


def rate(count: int, of: int, confidence: float) -> Rate:
    """A rate with Wilson's interval."""
    if of == 0:
        return Rate(0, 0, None, None, None)
    low, high = wilson(count, of, confidence)
    return Rate(count, of, count / of, low, high)


def overdispersion(counts: Sequence[tuple[int, int]]) -> float:
    """How much more seeds differ than draws of one proportion would: Pearson's chi-square by its
    degrees of freedom.

    At least 1. The quasi-binomial correction of McCullagh and Nelder (1989, §4.5): dividing the
    counts by it widens the interval. Two seeds estimate it poorly, but better than the 1 that a
    pooled count pretends."""
    share = sum(count for count, _ in counts) / sum(of for _, of in counts)
    if len(counts) < 2 or share in (0.0, 1.0):
        return 1.0
    chi_square = sum((count - of * share) ** 2 / (of * share * (1 - share)) for count, of in counts)
    return max(1.0, chi_square / (len(counts) - 1))


def pooled(counts: Sequence[tuple[int, int]], confidence: float) -> Rate:
    """One rate of several seeds that were asked the same prompts: an interval over prompts and over
    seeds.

    The factors by which clusters of prompts and of seeds widen the variance add up, less what both
    count (Cameron, Gelbach and Miller 2011). That of prompts is at most the number of seeds: they
    may all answer alike."""
    counted = [(count, of) for count, of in counts if of]
    total, of = sum(count for count, _ in counted), sum(of for _, of in counted)
    if len(counted) < 2:
        return rate(total, of, confidence)
    factor = len(counted) + overdispersion(counted) - 1.0
    low, high = wilson(total / factor, of / factor, confidence)
    return Rate(total, of, total / of, low, high, tuple(count / of for count, of in counted))


def averaged(values: Sequence[Sequence[float]], confidence: float) -> tuple[float, float, float]:
    """(value, low, high) of several seeds of a number between 0 and 1 that is no count, such as an
    area.

    What one seed leaves open stays open, for they read the same pages; the spread between seeds
    comes on top."""
    value, low, high = (fmean(column) for column in zip(*values, strict=True))
    if len(values) < 2:
        return value, low, high
    spread = (
        NormalDist().inv_cdf((1 + confidence) / 2)
        * stdev(one for one, *_ in values)
        / sqrt(len(values))
    )
    return (
        value,
        max(0.0, value - hypot(value - low, spread)),
        min(1.0, value + hypot(high - value, spread)),
    )


def difference(first: Rate, second: Rate) -> Difference | None:
    """`first - second` with Newcombe's hybrid score interval (1998, method 10); None where one was
    not counted.
    """
    if first.value is None or second.value is None:
        return None
    assert (
        first.low is not None
        and first.high is not None
        and second.low is not None
        and second.high is not None
    )
    value = first.value - second.value
    down = sqrt((first.value - first.low) ** 2 + (second.high - second.value) ** 2)
    up = sqrt((first.high - first.value) ** 2 + (second.value - second.low) ** 2)
    return Difference(value, max(-1.0, value - down), min(1.0, value + up))


def below(gap: Difference | None) -> Verdict:
    """The verdict on "first is below second": it stands or falls when the interval leaves 0 out."""
    if gap is None:
        return "not measured"
    if gap.high < 0:
        return "reproduced"
    return "contradicted" if gap.low > 0 else "not distinguishable"


def not_above(gap: Difference | None, margin: float) -> Verdict:
    """The verdict on "first is not above second", with a margin.

    Reproduced when the whole interval is below the margin (non-inferiority: few prompts cannot pass
    for equality), contradicted when the whole interval is above it."""
    if gap is None:
        return "not measured"
    if gap.high < margin:
        return "reproduced"
    return "contradicted" if gap.low > margin else "not distinguishable"


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """The verdict on a claim made of several: all must hold, one that fails suffices."""
    found = set(verdicts) - {"not measured"}
    if not found:
        return "not measured"
    if "contradicted" in found:
        return "contradicted"
    return "reproduced" if found == {"reproduced"} else "not distinguishable"


def mean(values: Sequence[float]) -> float | None:
    """The mean, or None of nothing."""
    return fmean(values) if values else None


Json = dict[str, Any]


def count_rate(count: int, of: int) -> Json:
    """A count of a total, and its value; None of nothing."""
    return {"count": count, "of": of, "value": round(count / of, DIGITS) if of else None}


def with_intervals(tree: Any, confidence: float) -> Any:
    """The same tree with Wilson's interval in every rate of it."""
    if not isinstance(tree, dict):
        return tree
    if "count" in tree and "of" in tree:
        return rate(tree["count"], tree["of"], confidence).json()
    return {name: with_intervals(value, confidence) for name, value in tree.items()}
