"""Figures of single prompts: significant differences, and prompts found in the training text."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import combinations, product

import polars as pl

from safelm.builder.files import Json
from safelm.report.charts.numbers import points, readable, short_percent
from safelm.report.data import ReportData
from safelm.report.draw import pivot
from safelm.report.layout import Cell, Figure, Row, Table, figure, name_of, table
from safelm.report.measured import Number
from safelm.report.roles import Group
from safelm.stats.bootstrap import RESAMPLES, Paired, Side, holm, paired
from safelm.stats.rates import rate
from specs.outcome import RATES_OF_HARMFUL, RATES_OF_HARMLESS, Outcome

# The outcomes that a metric counts.
EVENTS = {**RATES_OF_HARMLESS, "asr": RATES_OF_HARMFUL["asr"]}
FOUND = {"exact": "found", "near": "found", "none": "not found"}  # in the training text
Answered = tuple[Group, str]  # a group and a decoder


def metrics_of(kind: str) -> Sequence[str]:
    """Return the metrics that are compared on a kind of suite."""
    return ("asr",) if kind == "harmful" else ("complied", "over_refusal")


def suite_kinds(data: ReportData) -> dict[str, str]:
    """Return the kind of every suite of prompts, by its name."""
    frame = data.measured.frame.drop_nulls("decoder")
    rows = frame.filter(pl.all_horizontal(pl.col("row", "checkpoint").is_null()))
    return dict(rows.select("suite", "suite_kind").unique(maintain_order=True).iter_rows())


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
    is_ours = pl.col("model").is_in(group.models)
    rows = data.outcomes.filter(is_ours, decoder=decoder, stage=stage, suite=suite)
    judged = rows.filter(pl.col("verdict") != Outcome.UNJUDGED)
    seeds: dict[str, dict[str, bool]] = {model: {} for model in rows["model"]}
    for model, prompt, verdict in judged.select("model", "id", "verdict").iter_rows():
        seeds[model][prompt] = verdict in EVENTS[metric]
    return Side(seeds, dict(rows.select("id", "act").iter_rows())) if seeds else None


def _pairs(data: ReportData, stage: str) -> Iterator[tuple[Answered, Answered]]:
    """Iterate over pairs of models with one decoder, then pairs of decoders with one model."""
    groups = [group for group in data.built if stage in data.measured.stages(group.name)]
    decoders = data.all_decoders
    for decoder, (first, second) in product(decoders, combinations(groups, 2)):
        yield (first, decoder), (second, decoder)
    for group, (one_decoder, other_decoder) in product(groups, combinations(decoders, 2)):
        yield (group, one_decoder), (group, other_decoder)


# The page and summary.json both show it.
@lru_cache(maxsize=1)
def compared(data: ReportData) -> list[Json]:
    """Return every difference of two sides that answered the same prompts, as summary.json has it.

    p-values are adjusted for the number of comparisons (Holm); a difference is significant where
    its p-value is below 1 - confidence.
    """
    rows: list[Json] = []
    for (suite, kind), stage in product(suite_kinds(data).items(), data.measured.stages()):
        for sides, metric in product(_pairs(data, stage), metrics_of(kind)):
            if found := pair(data, stage, suite, metric, *sides):
                first, second = (f"{group.name}, {readable(decoder)}" for group, decoder in sides)
                row: Json = {"suite": suite, "stage": stage, "of": metric, "first": first}
                numbers = {**vars(found.gap), "prompts": found.prompts, "p_value": found.p_value}
                rows.append({**row, "second": second, **numbers})
    level = 1 - data.confidence
    adjusted = holm([row["p_value"] for row in rows])
    for row, p_value in zip(rows, adjusted, strict=True):
        row |= {"p_value": p_value, "significant": p_value < level}
    return rows


def differences(data: ReportData) -> Figure:
    """Show the number of significant differences, and a table for each suite."""
    results = compared(data)
    rows: dict[str, list[Row]] = {}
    for row in results:
        rows.setdefault(row["suite"], []).append(_shown(row))
    return figure(
        "differences",
        tables=[table("differences", part, suite=readable(suite)) for suite, part in rows.items()],
        significant=sum(row["significant"] for row in results),
        compared=len(results),
        level=short_percent(1 - data.confidence),
        resamples=f"{RESAMPLES:,}",
    )


def _shown(row: Row) -> Row:
    value, interval = points(row["value"], row["low"], row["high"])
    verdict = "significant" if row["significant"] else "not distinguishable"
    return {
        "stage": name_of("stage", row["stage"]),
        "metric": name_of("of", row["of"]),
        "pair": f"{row['first']} against {row['second']}",
        "value": Cell(value, f"{interval} {row['prompts']:,} prompts"),
        "p_value": row["p_value"],
        "verdict": Cell(verdict, verdict=verdict.replace("significant", "reproduced")),
    }


def overlap(data: ReportData) -> Figure:
    """List prompts that stand in the training text, and the rates of both parts of a suite."""
    prompts = data.overlap
    kinds = [(pl.col("overlap") == kind).sum().alias(kind) for kind in ("exact", "near")]
    counts = prompts.group_by("suite", maintain_order=True).agg(pl.len().alias("prompts"), *kinds)
    rows = [{**row, "suite": readable(row["suite"])} for row in counts.to_dicts()]
    found = prompts.filter(pl.col("overlap") != "none")
    repeated = found["suite"].unique(maintain_order=True)
    return figure(
        "overlap",
        tables=[table("overlap", rows), *(_both_parts(data, suite) for suite in repeated)],
        repeated=f"{len(found):,}",
        prompts=f"{len(prompts):,}",
    )


def _both_parts(data: ReportData, suite: str) -> Table:
    """Build the table of rates on the prompts that were found, and on those that were not."""
    metrics = metrics_of(suite_kinds(data).get(suite, "harmful"))
    columns = {}
    for metric, condition in product(metrics, dict.fromkeys(FOUND.values())):
        columns[f"{metric}, {condition}"] = f"{name_of('of', metric).capitalize()}, {condition}"
    answers = data.outcomes.filter(suite=suite).join(
        data.overlap.with_columns(condition=pl.col("overlap").replace_strict(FOUND)),
        on=("suite", "id"),
        # Without it, the rows of a join have no fixed order.
        maintain_order="left",
    )
    cells = answers.group_by("model", "stage", "decoder", "condition", maintain_order=True)
    numbers = []
    for row in cells.agg("verdict").iter_rows(named=True):
        verdicts, model = row.pop("verdict"), row.pop("model")
        for metric in metrics:
            count = sum(verdict in EVENTS[metric] for verdict in verdicts)
            share = rate(count, len(verdicts), data.confidence)
            numbers.append(Number(metric=metric, group=model, rate=share, **row))
    return pivot("overlap-parts", numbers, columns, suite=readable(suite))
