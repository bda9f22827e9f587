"""Claims: sentences that a build can contradict, judged by the intervals of differences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from safelm.report.charts.numbers import NONE, THIN, per_million, per_million_gap, percent, points
from safelm.stats.differences import (
    VERDICTS,
    Difference,
    Verdict,
    below,
    difference,
    not_above,
    together,
)
from safelm.stats.rates import Rate

MARGIN = 0.05  # "is kept" and "is not higher" mean: worse by less than five points


@dataclass(frozen=True)
class Comparison:
    """Two rates that a claim compares; it says that `lower` is below `higher`.

    Args:
        first: the model, stage and decoder of `lower`.
        second: the same of `higher`.
        kept: the claim holds while `lower` exceeds `higher` by less than MARGIN.
        per_million: rates are per million words, not percent.
        paired: the difference prompt by prompt, where both answered the same prompts.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    lower: Rate | None
    higher: Rate | None
    kept: bool = False
    per_million: bool = False
    paired: Difference | None = None

    @property
    def gap(self) -> Difference | None:
        """`lower - higher` with its interval.

        "Is kept" uses the interval of separate rates: answers that never differ have no paired one.
        """
        if self.paired and not self.kept:
            return self.paired
        if self.lower is None or self.higher is None:
            return None
        return difference(self.lower, self.higher)

    @property
    def verdict(self) -> Verdict:
        """The verdict that the interval gives."""
        return not_above(self.gap, MARGIN) if self.kept else below(self.gap)

    def sentence(self) -> str:
        """State the comparison in words.

        For example: `safe against standard (pretrain, greedy): 38.7 % against 84.7 %, difference
        −46.0 points [−54.9, −35.6]`.
        """
        shared = [part for part in self.first if part in self.second]
        names = [_without(side, shared) for side in (self.first, self.second)]
        where = f" ({', '.join(shared)})" if shared else ""
        gap = self.gap
        if gap is None or self.lower is None or self.higher is None:
            rates = (self.lower, self.higher)
            missing = [name for name, rate in zip(names, rates, strict=True) if rate is None]
            return f"{' and '.join(missing)}{where}: not measured"
        if self.per_million:
            values = [per_million(self.lower), per_million(self.higher)]
            apart = per_million_gap(gap)
        else:
            values = [percent(self.lower.value), percent(self.higher.value)]
            apart = " ".join(points(gap.value, gap.low, gap.high))
        return f"{' against '.join(names)}{where}: {' against '.join(values)}, difference {apart}"

    def json(self) -> dict[str, Any]:
        """Return the difference as summary.json holds it."""
        sides = {"first": ", ".join(self.first), "second": ", ".join(self.second)}
        gap = self.gap.json() if self.gap else {}
        return {**sides, **gap, "verdict": self.verdict}


def _without(side: Sequence[str], shared: Sequence[str]) -> str:
    return ", ".join(part for part in side if part not in shared)


@dataclass(frozen=True)
class Claim:
    """A sentence that a build can contradict; `paper` holds the paper's values, in percent."""

    id: str
    text: str
    source: str
    comparisons: Sequence[Comparison]
    paper: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """The verdict: all comparisons must hold, one that fails contradicts the claim."""
        return together([comparison.verdict for comparison in self.comparisons])

    @property
    def paper_lines(self) -> list[str]:
        """The paper's values; they are percentages but for rates per million."""
        is_percent = not any(comparison.per_million for comparison in self.comparisons)
        unit = f"{THIN}%" if is_percent else ""
        return [f"{name}: {value:g}{unit}" for name, value in self.paper.items()] or [NONE]

    @property
    def lines(self) -> list[str]:
        """What was measured, comparison by comparison."""
        sentences = [comparison.sentence() for comparison in self.comparisons]
        sentences = sentences or ["nothing of it was built"]
        return [*sentences, self.note] if self.note else sentences

    def json(self) -> dict[str, Any]:
        """Return the claim as summary.json holds it."""
        ours: dict[str, Any] = {}
        for one in self.comparisons:
            for side, rate in ((one.first, one.lower), (one.second, one.higher)):
                if rate:
                    ours[", ".join(side)] = rate.json()
        ours["differences"] = [one.json() for one in self.comparisons if one.gap]
        return {
            "id": self.id,
            "claim": self.text,
            "source": self.source,
            "verdict": self.verdict,
            "ours": ours,
            "paper": dict(self.paper),
            "sentence": "; ".join(self.lines),
        }


def verdicts(claims: Sequence[Claim]) -> dict[str, int]:
    """Count the claims of each verdict."""
    counts = Counter(claim.verdict for claim in claims)
    return {name: counts[name] for name in VERDICTS}
