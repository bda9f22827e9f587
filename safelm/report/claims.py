"""Claims of the paper and of our own, judged from intervals alone; claims.yaml declares them.

They make some twenty comparisons at 95 % confidence: about one in twenty that does not hold will
look settled.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import product
from operator import getitem
from pathlib import Path
from typing import Any

import yaml

from safelm.report.charts.numbers import readable
from safelm.report.claim import Claim, Comparison, Side
from safelm.report.data import ReportData
from safelm.report.figures.corpora import hazard_counts
from safelm.report.figures.differences import pair
from safelm.report.figures.scorers import matrices
from safelm.report.layout import names_of
from safelm.report.measured import SUITES
from safelm.report.roles import Group
from safelm.stats.classification import recall_rate
from safelm.stats.differences import Difference
from safelm.stats.rates import rate
from specs.paper import Paper

CLAIMS = Path(__file__).with_suffix(".yaml")
EVERY = "every"
MADE_UP = "the labels are those of the embedded world, whose rule wrote the pages"


@dataclass(frozen=True)
class Limit:
    """A row of `limits` in claims.yaml, which explains these fields."""

    metrics: Sequence[str]
    reason: str
    source: str
    sides: str = "both"
    rate: str = ""
    # No rate reaches these bounds, so that a row of claims.yaml has only those that it means.
    at_least: float = 1.1
    at_most: float = -0.1
    fewer_than: int = 0

    def holds(self, data: ReportData, comparison: Comparison) -> bool:
        """Return whether the rates of a comparison are at this limit."""
        sides = (comparison.lower, comparison.higher)
        lower, higher = (self._reached(data, side, comparison.judge) for side in sides)
        found = {"lower": lower, "higher": higher, "any": lower or higher, "both": lower and higher}
        return found[self.sides]

    def _reached(self, data: ReportData, side: Side, judge: str) -> bool:
        rate = side.rate
        if self.rate and side.group:
            cell = (side.group.name, side.stage, side.decoder)
            rate = data.measured.rate(self.rate, *cell, judge=judge or None)
        if rate is None or rate.value is None or rate.low is None:
            return False
        # Above a floor is what lies above it with its whole interval.
        return rate.value >= self.at_least or rate.low <= self.at_most or rate.of < self.fewer_than


def claims(data: ReportData) -> list[Claim]:
    """Judge every claim, in the order of claims.yaml."""
    # These compare no answers to prompts.
    special = {"rephrasing_lowers_hazards": _rephrasing, "classifier_recall": _classifier}
    values: Any = _paper_values(data.paper)
    rows = yaml.safe_load(CLAIMS.read_text(encoding="utf-8"))
    limits = [Limit(**columns) for columns in rows.pop("limits").values()]
    judged = []
    for id, columns in rows.items():
        paths = {name: path.split(".") for name, path in columns.pop("paper", {}).items()}
        paper = {name: float(reduce(getitem, path, values)) for name, path in paths.items()}
        claim = Claim(id, paper=paper, **columns)
        compare = special.get(id)
        compared = []
        for one in [compare(data)] if compare else _comparisons(data, claim):
            reached = [x for x in limits if claim.metric in x.metrics and x.holds(data, one)]
            reasons = [*one.limits, *(f"{limit.reason} ({limit.source})" for limit in reached)]
            compared.append(replace(one, limits=reasons))
        judged.append(replace(claim, comparisons=compared))
    return judged


def _comparisons(data: ReportData, row: Claim) -> Iterator[Comparison]:
    """Compare both sides, for every group and stage where the claim says so."""
    has_groups = EVERY in (row.lower[0], row.higher[0])
    groups: Sequence[Group | None] = data.built if has_groups else [None]
    stages = [""]
    if row.lower[1] == EVERY:
        # Without a safe model there is nothing to compare.
        safe = data.roles.parts.get("safe")
        stages = data.measured.stages(safe.name) if safe else []
    # The first judge has no name among numbers.
    numbers = data.measured.select(metric=row.metric, suite=SUITES.get(row.metric), judge=...)
    judges = dict.fromkeys(["", *(number.judge or "" for number in numbers)])
    for judge, group, stage in product(judges, groups, stages):
        cell = (row.metric, group, stage, judge)
        lower, higher = (_side(data, words, *cell) for words in (row.lower, row.higher))
        # A decoder that is not declared; and of every group, and by further judges, what is absent.
        if stage and row.lower[2:] and None in (lower.decoder, higher.decoder):
            continue
        if group and None in [side.rate for side in (lower, higher) if side.group is group]:
            continue
        if judge and None in (lower.rate, higher.rate):
            continue
        paired = _paired(data, lower, higher) if row.metric == "asr" and not judge else None
        yield Comparison(lower, higher, kept=row.kept, paired=paired, judge=judge)


def _side(
    data: ReportData, words: Sequence[str], metric: str, group: Group | None, stage: str, judge: str
) -> Side:
    """Look up a side by its words; `every` stands for the given group or stage."""
    part, at, *roles = words
    groups = {EVERY: group, **data.roles.ablation, **data.roles.parts}
    chosen, stage = groups.get(part), stage if at == EVERY else at
    decoder = getattr(data.decoders, roles[0]) if roles else None
    missing = names_of("step") | names_of("part")
    name = chosen.name if chosen else f"{missing[part]} (not built)"
    rate = None
    if chosen and (decoder or not roles):
        rate = data.measured.rate(metric, chosen.name, stage, decoder, judge or None)
    title = (name, stage, readable(decoder or ""), f"by {readable(judge)}" if judge else "")
    return Side(tuple(filter(None, title)), rate, chosen, stage, decoder)


def _paired(data: ReportData, lower: Side, higher: Side) -> Difference | None:
    """Compare prompt by prompt; None between two stages, whose prompts are worded differently."""
    sides = [(side.group, side.decoder) for side in (lower, higher)]
    # A side that was not built, or a decoder that is not declared, has no answers to pair.
    known = [(group, decoder) for group, decoder in sides if group and decoder]
    if len(known) < 2 or lower.stage != higher.stage:
        return None
    difference = pair(data, lower.stage, "harmful", "asr", *known)
    return difference.gap if difference else None


def _rephrasing(data: ReportData) -> Comparison:
    """Compare the hazard n-grams of rephrased text with those of its sources."""
    sides = []
    for name, corpora in zip(("its sources", "rephrased"), data.rewritten, strict=True):
        count, words = hazard_counts(data.cards, corpora)
        # n-grams overlap, so that a short text may hold more of them than words.
        found = rate(min(count, words), words, data.confidence) if words else None
        sides.append(Side((name,), found))
    sources, rephrased = sides
    return Comparison(rephrased, sources, per_million=True)


def _classifier(data: ReportData) -> Comparison:
    """Compare Recall@1 of the paper's classifier with that of our first scorer."""
    theirs = recall_rate(data.paper.classifier.matrices["gte-base"], 1, data.confidence)
    first = next(matrices(data.fit), None)
    ours = recall_rate(first[1], 1, data.confidence) if first else None
    sides = (Side(("the paper's gte-base",), theirs), Side(("our classifier",), ours))
    limits = [f"{MADE_UP} (specs/hazards.yaml)"] if data.declared.has_made_up_labels else []
    return Comparison(*sides, kept=True, limits=limits)


def _paper_values(paper: Paper) -> dict[str, Any]:
    """Return the paper's numbers, in percent, and those that follow from them."""
    refused, hazards = paper.over_refusal, paper.card.hazards.values()
    declined = {}
    for name, row in (("safe", refused.safe), ("standard", refused.standard)):
        declined[name] = round(100 * (row.partial_refusal + row.refused) / refused.of, 1)
    recall = {name: round(100 * row.recall_1, 2) for name, row in paper.classifier.table.items()}
    rephrased, raw = zip(*((row.rephrased_3, row.score_3) for row in hazards), strict=True)
    sums = {"rephrased_3": round(sum(rephrased), 2), "score_3": round(sum(raw), 2)}
    return {**paper.model_dump(), "declined": declined, "recall": recall, "hazards": sums}
