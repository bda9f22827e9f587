"""Differences of two rates, and the verdict that their interval allows."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal

from safelm.stats.rates import Rate, rounded

Verdict = Literal["reproduced", "contradicted", "not distinguishable", "not measured"]
VERDICTS: tuple[Verdict, ...] = (
    "reproduced",
    "contradicted",
    "not distinguishable",
    "not measured",
)


@dataclass(frozen=True)
class Difference:
    """A difference of two rates with its interval."""

    value: float
    low: float
    high: float

    def json(self) -> dict[str, float | None]:
        """Return the difference as summary.json shows it."""
        return {name: rounded(getattr(self, name)) for name in ("value", "low", "high")}


def difference(first: Rate, second: Rate) -> Difference | None:
    """Compute `first - second` with Newcombe's hybrid score interval (1998, method 10).

    Returns None where either rate was not measured.
    """
    if first.value is None or second.value is None:
        return None
    assert first.low is not None and first.high is not None
    assert second.low is not None and second.high is not None
    value = first.value - second.value
    down = sqrt((first.value - first.low) ** 2 + (second.high - second.value) ** 2)
    up = sqrt((first.high - first.value) ** 2 + (second.value - second.low) ** 2)
    return Difference(value, max(-1.0, value - down), min(1.0, value + up))


def below(gap: Difference | None) -> Verdict:
    """Judge "first is below second": settled where the interval leaves 0 out."""
    return not_above(gap, 0.0)


def not_above(gap: Difference | None, margin: float) -> Verdict:
    """Judge "first is not above second by `margin` or more".

    Reproduced where the whole interval is below the margin: a test of non-inferiority, so that few
    prompts cannot pass for equality. Contradicted where the whole interval is above the margin.
    """
    if gap is None:
        return "not measured"
    if gap.high < margin:
        return "reproduced"
    return "contradicted" if gap.low > margin else "not distinguishable"


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """Judge a claim of several comparisons: all must hold, one that fails contradicts it."""
    measured = set(verdicts) - {"not measured"}
    if not measured:
        return "not measured"
    if "contradicted" in measured:
        return "contradicted"
    return "reproduced" if measured == {"reproduced"} else "not distinguishable"
