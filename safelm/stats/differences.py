"""Differences of two rates, and the verdict that their interval allows."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Literal, get_args

from safelm.stats.rates import Rate, rounded

Verdict = Literal[
    "reproduced",
    "contradicted",
    "not distinguishable",
    "judges disagree",
    "not testable",
    "not measured",
]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)


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
    # The difference is least where the first rate is low and the second high.
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
    """Judge a claim of several comparisons: all must hold, one that fails contradicts it.

    Those that were not measured or cannot be tested decide nothing beside others.
    """
    found = set(verdicts)
    decided = found - {"not measured", "not testable"}
    if not decided:
        return "not testable" if "not testable" in found else "not measured"
    if "contradicted" in decided:
        return "contradicted"
    return "reproduced" if decided == {"reproduced"} else "not distinguishable"


def across_judges(verdicts: Sequence[Verdict]) -> Verdict:
    """Judge a claim by the verdict of each judge, the first judge's first.

    Judges disagree where one contradicts what another does not. What the first judge cannot test
    is not settled by another.
    """
    if verdicts and verdicts[0] == "not testable":
        return "not testable"
    decided = set(verdicts) - {"not measured", "not testable"}
    if "contradicted" in decided and len(decided) > 1:
        return "judges disagree"
    return together(verdicts)
