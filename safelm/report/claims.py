"""Claims of the paper and of our own, judged from intervals alone; claims.yaml declares them.

They make some twenty comparisons at 95 % confidence: about one in twenty that does not hold will
look settled.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import reduce
from itertools import islice, product
from pathlib import Path
from typing import Any

import yaml

from safelm.report.charts.numbers import readable
from safelm.report.claim import Claim, Comparison, Side
from safelm.report.data import ReportData
from safelm.report.figures.corpora import hazard_counts
from safelm.report.figures.differences import pair
from safelm.report.figures.scorers import matrices
from safelm.report.roles import STEPS, Group
from safelm.stats.classification import recall_rate
from safelm.stats.differences import Difference
from safelm.stats.rates import Rate, rate
from specs.paper import Paper

CLAIMS = Path(__file__).with_suffix(".yaml")
EVERY = "every"
# Names of models that were not built.
MISSING = {**STEPS, "safe": "all interventions", "standard": "raw data", "filtered": "score 0 only"}


@dataclass(frozen=True)
class Row:
    """A row of claims.yaml, which explains these fields."""

    text: str
    source: str
    lower: Sequence[str] = ()
    higher: Sequence[str] = ()
    metric: str = "asr"
    kept: bool = False
    paper: Mapping[str, str] = field(default_factory=dict)
    note: str = ""


def claims(data: ReportData) -> list[Claim]:
    """Judge every claim, in the order of claims.yaml."""
    # These compare no answers to prompts.
    special = {
        "rephrasing_lowers_hazards": _rephrasing,
        "classifier_recall": _classifier,
    }
    values = _paper_values(data.paper)
    judged = []
    for id, columns in yaml.safe_load(CLAIMS.read_text(encoding="utf-8")).items():
        row = Row(**columns)
        compare = special.get(id)
        compared = [compare(data)] if compare else list(_comparisons(data, row))
        paper = {name: _value(values, path) for name, path in row.paper.items()}
        judged.append(Claim(id, row.text, row.source, compared, paper, row.note))
    return judged


def _comparisons(data: ReportData, row: Row) -> Iterator[Comparison]:
    """Compare both sides, for every group and stage where the row says so."""
    has_groups = EVERY in (row.lower[0], row.higher[0])
    groups: Sequence[Group | None] = data.built if has_groups else [None]
    stages = [""]
    if row.lower[1] == EVERY:
        # Without a safe model there is nothing to compare.
        safe = data.roles.parts.get("safe")
        stages = data.measured.stages(safe.name) if safe else []
    for group, stage in product(groups, stages):
        lower, higher = (
            _side(data, words, row.metric, group, stage) for words in (row.lower, row.higher)
        )
        if stage and None in (lower.decoder, higher.decoder):
            continue
        # Of every group those count that were measured.
        if group and None in [side.rate for side in (lower, higher) if side.group is group]:
            continue
        paired = _paired(data, lower, higher) if row.metric == "asr" else None
        yield Comparison(lower, higher, kept=row.kept, paired=paired)


def _side(
    data: ReportData, words: Sequence[str], metric: str, group: Group | None, stage: str
) -> Side:
    """Look up a side by its words; `every` stands for the given group or stage."""
    part, at, *roles = words
    groups = {EVERY: group, **data.roles.ablation, **data.roles.parts}
    chosen, stage = groups.get(part), stage if at == EVERY else at
    decoder = getattr(data.decoders, roles[0]) if roles else None
    name = chosen.name if chosen else f"{MISSING[part]} (not built)"
    rate = None
    if chosen and (decoder or not roles):
        rate = data.measured.rate(metric, chosen.name, stage, decoder)
    title = (name, stage, readable(decoder)) if decoder else (name, stage)
    return Side(title, rate, chosen, stage, decoder)


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
    before, after = (_hazards(data, corpora) for corpora in data.rewritten)
    rephrased, sources = Side(("rephrased",), after), Side(("its sources",), before)
    return Comparison(rephrased, sources, per_million=True)


def _hazards(data: ReportData, corpora: Sequence[str]) -> Rate | None:
    count, words = hazard_counts(data.inputs.cards, corpora)
    # n-grams overlap, so that a short text may hold more of them than words.
    return rate(min(count, words), words, data.confidence) if words else None


def _classifier(data: ReportData) -> Comparison:
    """Compare Recall@1 of the paper's classifier with that of our first scorer."""
    theirs = recall_rate(data.paper.classifier.matrices["gte-base"], 1, data.confidence)
    ours = None
    for _, matrix in islice(matrices(data.inputs.fit), 1):
        ours = recall_rate(matrix, 1, data.confidence)
    return Comparison(
        Side(("the paper's gte-base",), theirs), Side(("our classifier",), ours), kept=True
    )


def _paper_values(paper: Paper) -> dict[str, Any]:
    """Return the paper's numbers, in percent, and those that follow from them."""
    hazards = paper.card.hazards.values()
    refused = paper.over_refusal
    labels = {"safe": refused.safe, "standard": refused.standard}
    declined = {name: row.partial_refusal + row.refused for name, row in labels.items()}
    recalls = {name: row.recall_1 for name, row in paper.classifier.table.items()}
    return {
        **paper.model_dump(),
        "declined": {name: round(100 * n / refused.of, 1) for name, n in declined.items()},
        "recall": {name: round(100 * recall, 2) for name, recall in recalls.items()},
        "hazards": {
            "rephrased_3": round(sum(row.rephrased_3 for row in hazards), 2),
            "score_3": round(sum(row.score_3 for row in hazards), 2),
        },
    }


def _value(values: Mapping[str, Any], path: str) -> float:
    value: Any = reduce(lambda node, name: node[name], path.split("."), values)
    return float(value)
