"""A claim is a sentence that a build can contradict: it compares rates, and their intervals give
the verdict.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from safelm.report.charts.numbers import NONE, THIN, per_million, per_million_gap, percent, points
from safelm.stats.differences import Difference, Verdict, below, difference, not_above, together
from safelm.stats.rates import Rate

MARGIN = 0.05  # "is kept" and "is not higher" mean: worse by less than five points


@dataclass(frozen=True)
class Comparison:
    """Two rates that a claim compares, each by what it is of: (model, stage, decoder).

    The claim says that `low` is below `high`; `kept` means that it may exceed it by MARGIN.
    """

    first: tuple[str, ...]
    second: tuple[str, ...]
    low: Rate | None
    high: Rate | None
    kept: bool = False
    per_million: bool = False  # how the rates are written: per million words, or percent
    paired: Difference | None = (
        None  # where both answered the same prompts: their difference, prompt by prompt
    )

    @property
    def gap(self) -> Difference | None:
        """`low - high` with its interval.

        Where something is to be kept, that of separate rates: answers that never differ have no
        paired interval."""
        if self.paired and not self.kept:
            return self.paired
        return difference(self.low, self.high) if self.low and self.high else None

    @property
    def verdict(self) -> Verdict:
        """What the interval says."""
        return not_above(self.gap, MARGIN) if self.kept else below(self.gap)

    def sentence(self) -> str:
        """`safe against standard (pretrain, greedy): 38.7 % against 84.7 %, difference −46.0 points
        [−54.9, −35.6]`.
        """
        shared = [part for part in self.first if part in self.second]
        sides = [
            ", ".join(part for part in side if part not in shared)
            for side in (self.first, self.second)
        ]
        where = f" ({', '.join(shared)})" if shared else ""
        if self.gap is None or self.low is None or self.high is None:
            missing = [
                side
                for side, rate in zip(sides, (self.low, self.high), strict=True)
                if rate is None
            ]
            return f"{' and '.join(missing)}{where}: not measured"
        values = [
            per_million(rate) if self.per_million else percent(rate.value)
            for rate in (self.low, self.high)
        ]
        apart = per_million_gap(self.gap) if self.per_million else " ".join(points(self.gap))
        return f"{' against '.join(sides)}{where}: {' against '.join(values)}, difference {apart}"

    def json(self) -> dict[str, Any]:
        """The difference, as summary.json holds it."""
        found = self.gap.json() if self.gap else {}
        return {
            "first": ", ".join(self.first),
            "second": ", ".join(self.second),
            **found,
            "verdict": self.verdict,
        }


@dataclass(frozen=True)
class Claim:
    """A sentence that a build can contradict; `paper` holds what the paper reports, in percent."""

    id: str
    text: str
    source: str
    comparisons: Sequence[Comparison]
    paper: Mapping[str, float] = field(default_factory=dict)
    note: str = ""

    @property
    def verdict(self) -> Verdict:
        """All comparisons must hold; one that fails is enough to contradict."""
        return together([comparison.verdict for comparison in self.comparisons])

    @property
    def lines(self) -> list[str]:
        """What was measured, comparison by comparison."""
        return [
            *([one.sentence() for one in self.comparisons] or ["nothing of it was built"]),
            *filter(None, [self.note]),
        ]

    def json(self) -> dict[str, Any]:
        """As summary.json holds it."""
        sides = [
            side
            for one in self.comparisons
            for side in ((one.first, one.low), (one.second, one.high))
        ]
        return {
            "id": self.id,
            "claim": self.text,
            "source": self.source,
            "verdict": self.verdict,
            "ours": {
                **{", ".join(name): rate.json() for name, rate in sides if rate},
                "differences": [one.json() for one in self.comparisons if one.gap],
            },
            "paper": dict(self.paper),
            "sentence": "; ".join(self.lines),
        }


def verdicts(found: Sequence[Claim]) -> dict[str, int]:
    """How many claims got which verdict."""
    order: tuple[Verdict, ...] = (
        "reproduced",
        "contradicted",
        "not distinguishable",
        "not measured",
    )
    return {verdict: sum(claim.verdict == verdict for claim in found) for verdict in order}


def paper_lines(claim: Claim) -> list[str]:
    """The paper's numbers in words; most are percentages."""
    unit = "" if any(one.per_million for one in claim.comparisons) else f"{THIN}%"
    return [f"{name}: {value:g}{unit}" for name, value in claim.paper.items()] or [NONE]
