"""Figures of single prompts: significant differences, and prompts found in the training text."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations, product
from typing import Any

import polars as pl

from safelm.report.charts.numbers import points, readable, short_percent
from safelm.report.data import ReportData
from safelm.report.layout import STAGE_NAMES, Cell, Figure, Row, Table, figure, table
from safelm.report.roles import Group
from safelm.stats.bootstrap import RESAMPLES, Paired, Side, holm, paired
from safelm.stats.rates import rate
from specs.outcome import RATES_OF_HARMFUL, RATES_OF_HARMLESS, Outcome

# The outcomes that a metric counts, and its name among differences.
EVENTS = {**RATES_OF_HARMLESS, "asr": RATES_OF_HARMFUL["asr"]}
NAMES = {"asr": "attack success", "complied": "compliance", "over_refusal": "over-refusal"}
FOUND = {"found": ("exact", "near"), "not found": ("none",)}  # in the training text
Answered = tuple[Group, str]  # a group and a decoder


@dataclass(frozen=True)
class Difference:
    """Two sides that answered the same prompts of a suite at a stage, and their difference."""

    suite: str
    stage: str
    metric: str
    sides: tuple[str, ...]  # a group and a decoder
    paired: Paired


def metrics_of(kind: str) -> Sequence[str]:
    """Return the metrics that are compared on a kind of suite."""
    return ("asr",) if kind == "harmful" else ("complied", "over_refusal")


def suite_kinds(data: ReportData) -> dict[str, str]:
    """Return the kind of every suite of prompts, by its name."""
    rows = data.measured.frame.filter(
        pl.col("decoder").is_not_null(), pl.col("row").is_null(), pl.col("checkpoint").is_null()
    )
    kinds = rows.select("suite", "suite_kind").unique(maintain_order=True)
    return dict(kinds.iter_rows())


def pair(
    data: ReportData, stage: str, suite: str, metric: str, first: Answered, second: Answered
) -> Paired | None:
    """Compare two sides prompt by prompt; None where they share no prompts."""
    first_side, second_side = (_side(data, *side, stage, suite, metric) for side in (first, second))
    return paired(first_side, second_side, data.confidence) if first_side and second_side else None


# Sides are kept, since the bootstrap caches its draws by the side.
@lru_cache(maxsize=512)
def _side(
    data: ReportData, group: Group, decoder: str, stage: str, suite: str, metric: str
) -> Side | None:
    """Return whether the event happened, for each seed and every prompt that was judged."""
    seeds = {}
    for model in group.models:
        outcomes = data.inputs.outcomes.get((model, stage, decoder, suite), {})
        judged = {prompt: o for prompt, o in outcomes.items() if o != Outcome.UNJUDGED}
        if outcomes:
            seeds[model] = {prompt: o in EVENTS[metric] for prompt, o in judged.items()}
    return Side(seeds, data.inputs.acts) if seeds else None


def _differences(data: ReportData) -> Iterator[Difference]:
    for (suite, kind), stage in product(suite_kinds(data).items(), data.measured.stages()):
        for (first, second), metric in product(_pairs(data, stage), metrics_of(kind)):
            if result := pair(data, stage, suite, metric, first, second):
                sides = [f"{group.name}, {readable(by)}" for group, by in (first, second)]
                yield Difference(suite, stage, metric, tuple(sides), result)


def _pairs(data: ReportData, stage: str) -> Iterator[tuple[Answered, Answered]]:
    """Iterate over pairs of models with one decoder, then pairs of decoders with one model."""
    groups, decoders = data.groups_at(stage), data.all_decoders
    for decoder in decoders:
        for first, second in combinations(groups, 2):
            yield (first, decoder), (second, decoder)
    for group in groups:
        for one_decoder, other_decoder in combinations(decoders, 2):
            yield (group, one_decoder), (group, other_decoder)


@lru_cache(maxsize=1)
def compared(data: ReportData) -> list[tuple[Difference, float, bool]]:
    """Return every difference, its adjusted p-value and whether it is significant.

    p-values are adjusted for the number of comparisons (Holm); a difference is significant where
    its p-value is below 1 - confidence.
    """
    differences = list(_differences(data))
    adjusted = holm([difference.paired.p_value for difference in differences])
    level = 1 - data.confidence
    pairs = zip(differences, adjusted, strict=True)
    return [(difference, p_value, p_value < level) for difference, p_value in pairs]


def summary(data: ReportData) -> list[dict[str, Any]]:
    """Return the differences as summary.json holds them."""
    return [
        {
            "suite": difference.suite,
            "stage": difference.stage,
            "of": difference.metric,
            "first": difference.sides[0],
            "second": difference.sides[1],
            **difference.paired.gap.json(),
            "prompts": difference.paired.prompts,
            "p_value": round(p_value, 6),
            "significant": significant,
        }
        for difference, p_value, significant in compared(data)
    ]


def differences(data: ReportData) -> Figure:
    """Show the number of significant differences, and a table for each suite."""
    results = compared(data)
    suites = dict.fromkeys(difference.suite for difference, *_ in results)
    return figure(
        "differences",
        tables=[_table(suite, results) for suite in suites],
        significant=sum(significant for *_, significant in results),
        compared=len(results),
        level=short_percent(1 - data.confidence),
        resamples=f"{RESAMPLES:,}",
    )


def _table(suite: str, results: Sequence[tuple[Difference, float, bool]]) -> Table:
    rows: list[Row] = []
    for difference, p_value, significant in results:
        if difference.suite != suite:
            continue
        gap = difference.paired.gap
        value, interval = points(gap.value, gap.low, gap.high)
        verdict = "significant" if significant else "not distinguishable"
        colour = "reproduced" if significant else verdict
        row = {
            "stage": STAGE_NAMES[difference.stage],
            "metric": NAMES[difference.metric],
            "pair": " against ".join(difference.sides),
            "value": Cell(value, f"{interval} {difference.paired.prompts:,} prompts"),
            "p_value": p_value,
            "verdict": Cell(verdict, verdict=colour),
        }
        rows.append(row)
    return table("differences", rows, suite=readable(suite))


def overlap(data: ReportData) -> Figure:
    """List prompts that stand in the training text, and the rates of both parts of a suite."""
    counts: dict[str, Counter[str]] = {}
    for (suite, _), kind in data.inputs.overlap.items():
        counts.setdefault(suite, Counter())[kind] += 1
    rows: list[Row] = []
    repeated = {}
    for suite, count in counts.items():
        rows.append({"suite": readable(suite), "prompts": count.total(), **_both(count)})
        repeated[suite] = sum(_both(count).values())
    return figure(
        "overlap",
        tables=[
            table("overlap", rows),
            *(_both_parts(data, suite) for suite, count in repeated.items() if count),
        ],
        repeated=f"{sum(repeated.values()):,}",
        prompts=f"{len(data.inputs.overlap):,}",
    )


def _both(count: Counter[str]) -> dict[str, int]:
    return {kind: count[kind] for kind in FOUND["found"]}


def _both_parts(data: ReportData, suite: str) -> Table:
    """Build the table of rates on the prompts that were found, and on those that were not."""
    kinds, overlap = suite_kinds(data), data.inputs.overlap
    cells = list(product(metrics_of(kinds.get(suite, "harmful")), FOUND))
    rows: list[Row] = []
    for (model, stage, decoder, of_suite), outcomes in data.inputs.outcomes.items():
        if of_suite != suite:
            continue
        row: dict[Any, Any] = {"group": model, "stage": STAGE_NAMES[stage]}
        row["decoder"] = readable(decoder)
        for metric, found in cells:
            judged = [
                outcome in EVENTS[metric]
                for prompt, outcome in outcomes.items()
                if overlap.get((suite, prompt)) in FOUND[found]
            ]
            row[metric, found] = rate(sum(judged), len(judged), data.confidence)
        rows.append(row)
    columns = {cell: f"{NAMES[cell[0]].capitalize()}, {cell[1]}" for cell in cells}
    return table("overlap-parts", rows, columns, suite=readable(suite))
