"""Claims: sentences that a build can contradict, judged by the intervals of differences."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from safelm.builder.files import Json
from safelm.report.charts.numbers import NONE, THIN, percent, points
from safelm.report.roles import Group
from safelm.stats.differences import (
    VERDICTS,
    Difference,
    Verdict,
    across_judges,
    below,
    difference,
    not_above,
    together,
)
from safelm.stats.rates import Rate

MARGIN = 0.05  # "is kept" and "is not higher" mean: worse by less than five points


@dataclass(frozen=True)
class Side:
    """One side of a comparison: the rate of a group of models at a stage under a decoder.

    `name` says so in words; what is compared otherwise has neither group nor decoder.
    """

    name: tuple[str, ...]
    rate: Rate | None
    group: Group | None = None
    stage: str = ""
    decoder: str | None = None


@dataclass(frozen=True)
class Comparison:
    """Two rates that a claim compares; it says that `lower` is below `higher`.

    Args:
        kept: the claim holds while `lower` exceeds `higher` by less than MARGIN.
        per_million: rates are per million words, not percent.
        paired: the difference prompt by prompt, where both answered the same prompts.
        judge: of the answers; empty for the first judge of the suite, and what has none.
        limits: why the rates of both sides cannot tell whether the claim holds.
    """

    lower: Side
    higher: Side
    kept: bool = False
    per_million: bool = False
    paired: Difference | None = None
    judge: str = ""
    limits: Sequence[str] = ()

    @property
    def gap(self) -> Difference | None:
        """`lower - higher` with its interval.

        "Is kept" uses the interval of separate rates: answers that never differ have no paired one.
        """
        if self.paired and not self.kept:
            return self.paired
        if self.lower.rate is None or self.higher.rate is None:
            return None
        return difference(self.lower.rate, self.higher.rate)

    @property
    def verdict(self) -> Verdict:
        """The verdict that the interval gives, unless the rates are at a limit."""
        if self.gap and self.limits:
            return "not testable"
        return not_above(self.gap, MARGIN) if self.kept else below(self.gap)

    def sentence(self) -> str:
        """State the comparison in words.

        For example: `safe against standard (pretrain, greedy): 38.7 % against 84.7 %, difference
        −46.0 points [−54.9, −35.6]`.
        """
        shared = [part for part in self.lower.name if part in self.higher.name]
        where = f" ({', '.join(shared)})" if shared else ""
        names, values, missing = [], [], []
        for side in (self.lower, self.higher):
            name = ", ".join(part for part in side.name if part not in shared)
            names.append(name)
            if side.rate is None:
                missing.append(name)
            elif self.per_million:
                values.append(f"{(side.rate.value or 0) * 1e6:,.1f} per million")
            else:
                values.append(percent(side.rate.value))
        gap = self.gap
        if gap is None or missing:
            return f"{' and '.join(missing)}{where}: not measured"
        unit = (1e6, "per million") if self.per_million else (100.0, "points")
        apart = " ".join(points(gap.value, gap.low, gap.high, *unit))
        limits = "".join(f"; not testable: {limit}" for limit in self.limits)
        found = f"{' against '.join(values)}, difference {apart}{limits}"
        return f"{' against '.join(names)}{where}: {found}"

    def json(self) -> Json:
        """Return the difference as summary.json holds it."""
        sides = {"first": ", ".join(self.lower.name), "second": ", ".join(self.higher.name)}
        gap = self.gap.json() if self.gap else {}
        return {**sides, **gap, "verdict": self.verdict, "limits": [*self.limits]}


@dataclass(frozen=True)
class Claim:
    """A sentence that a build can contradict: a row of claims.yaml, with its comparisons.

    claims.yaml explains the fields, but `paper` has the values themselves, in percent.
    """

    id: str
    text: str
    source: str
    paper: Mapping[str, float]
    lower: Sequence[str] = ()
    higher: Sequence[str] = ()
    metric: str = "asr"
    kept: bool = False
    note: str = ""
    comparisons: Sequence[Comparison] = ()

    @property
    def verdict(self) -> Verdict:
        """The verdict: all comparisons must hold, by every judge."""
        judged: dict[str, list[Verdict]] = {}
        for comparison in self.comparisons:
            judged.setdefault(comparison.judge, []).append(comparison.verdict)
        return across_judges([together(verdicts) for verdicts in judged.values()])

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

    def json(self) -> Json:
        """Return the claim as summary.json holds it."""
        ours: Json = {}
        for one in self.comparisons:
            sides = (one.lower, one.higher)
            ours |= {", ".join(side.name): side.rate.json() for side in sides if side.rate}
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
