"""Figures of external models, and of prompts that stand in the training text."""

from collections import Counter
from collections.abc import Iterator
from itertools import product
from typing import Any

from safelm.report.charts.numbers import fixed, readable
from safelm.report.data import ReportData
from safelm.report.draw import measured_figure, pivot
from safelm.report.figures.differences import EVENTS, NAMES, metrics_of, suite_kinds
from safelm.report.layout import STAGE_NAMES, Figure, Row, Table, figure, table
from safelm.stats.rates import rate

FOUND = {"found": ("exact", "near"), "not found": ("none",)}


def external_models(data: ReportData) -> Figure:
    """Draw attack success and compliance of every row of `external_models`."""
    everything = data.external.select()
    answers = [number for number in everything if number.decoder]
    shown, tables = [], []
    for metric in ("asr", "complied"):
        bars = [number for number in answers if number.metric == metric]
        suites = {number.suite for number in bars}
        shown += bars
        numbers = [number for number in answers if number.suite in suites]
        tables.append(pivot(f"others-{metric}", numbers))
    tables.append(table("others-utility", _utility(data)))
    stages = {number.group: number.stage for number in everything}
    models = " ".join(_described(data, name, stage) for name, stage in stages.items())
    return measured_figure(data, "others", shown, tables, models=models)


def _described(data: ReportData, name: str, stage: str) -> str:
    how = "prompted in its chat format" if stage == "instruct" else "continues the prompts"
    knows = data.external.select(metric="knows_tag", group=name)
    is_known = any(number.rate.value for number in knows)
    tag = "knows the tag" if is_known else "does not know the tag"
    return f"{name}: {how}, {tag}."


def _utility(data: ReportData) -> Iterator[Row]:
    """Iterate over rows of multiple choice and of lm-evaluation-harness, where measured."""
    suites = data.external.frame.filter(suite_kind="utility")["suite"].unique().to_list()
    numbers, own = data.external.select(suite=suites), data.external.utility_suite
    for number in numbers:
        row = {"group": number.group, "rate": number.rate}
        if number.metric == "accuracy":
            perplexity = data.external.rate("perplexity", number.group, number.stage)
            measure = f"{fixed(perplexity.value if perplexity else None, 2)} perplexity"
            yield {**row, "task": "multiple choice", "measure": measure}
        elif number.suite != own and number.rate.of:
            task, measure = readable(number.suite), readable(number.metric)
            yield {**row, "task": task, "measure": measure}


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
