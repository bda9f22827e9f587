"""Figures of external models, and of prompts that stand in the training text."""

from collections import Counter
from collections.abc import Collection, Mapping
from itertools import product

from safelm.report.charts.numbers import fixed, readable
from safelm.report.data import ReportData
from safelm.report.draw import METRICS, bar_chart, grouped, metric_columns, pivot
from safelm.report.figures.differences import EVENTS, metrics_of, suite_kinds
from safelm.report.layout import STAGE_NAMES, Figure, Panel, Table, Value, figure, table
from safelm.stats.rates import rate

# Metric of the bars: the metrics of the table.
COLUMNS = {
    "asr": ("asr", "refused", "neither", "unjudged"),
    "complied": ("complied", "over_refusal", "unjudged"),
}
FOUND = {"found": ("exact", "near"), "not found": ("none",)}


def external_models(data: ReportData) -> Figure | None:
    """Draw attack success and compliance of every row of `external_models`."""
    everything = data.external.select()
    if not everything:
        return None
    answers = [number for number in everything if number.decoder]
    panels, tables = [], []
    for metric, columns in COLUMNS.items():
        suites = {number.suite for number in answers if number.metric == metric}
        numbers = [number for number in answers if number.suite in suites]
        if numbers:
            title = METRICS[metric]
            shown = [number for number in numbers if number.metric == metric]
            what = f"{title.lower()}, external models"
            panels.append(Panel(title, bar_chart(data, shown, what, ("group", "suite"))))
            heads = ("group", "decoder", "suite")
            tables.append(pivot(title, numbers, heads, metric_columns(*columns)))
    stages = {number.group: number.stage for number in everything}
    described = (_described(data, name, stage) for name, stage in stages.items())
    return figure(
        "others",
        panels,
        legend=data.legend(grouped(answers, "decoder")),
        tables=[*tables, *_utility(data)],
        models=" ".join(described),
    )


def _described(data: ReportData, name: str, stage: str) -> str:
    how = "prompted in its chat format" if stage == "instruct" else "continues the prompts"
    knows = data.external.rate("knows_tag", name, stage)
    tag = "knows the tag" if knows and knows.value else "does not know the tag"
    return f"{name}: {how}, {tag}."


def _utility(data: ReportData) -> list[Table]:
    """Build the table of multiple choice and of lm-evaluation-harness, where measured."""
    suites = data.external.frame.filter(suite_kind="utility")["suite"].unique().to_list()
    numbers, own = data.external.select(suite=suites), data.external.utility_suite
    perplexities = {
        number.group: number.rate.value
        for number in numbers
        if (number.suite, number.metric) == (own, "perplexity")
    }
    rows: list[list[Value]] = []
    for number in numbers:
        if number.metric == "accuracy":
            measure = f"{fixed(perplexities.get(number.group), 2)} perplexity"
            rows.append([number.group, "multiple choice", number.rate, measure])
        elif number.suite != own and number.rate.of:
            task, measure = readable(number.suite), readable(number.metric)
            rows.append([number.group, task, number.rate, measure])
    if not rows:
        return []
    return [table("Utility", ("Model", "Task"), ("Rate", "Measure"), rows)]


def overlap(data: ReportData) -> Figure | None:
    """List prompts that stand in the training text, and the rates of both parts of a suite."""
    prompts = data.inputs.overlap
    if not prompts:
        return None
    counts: dict[str, Counter[str]] = {}
    for (suite, _), kind in prompts.items():
        counts.setdefault(suite, Counter())[kind] += 1
    rows: list[list[Value]] = []
    for suite, count in counts.items():
        numbers = (count.total(), count["exact"], count["near"])
        rows.append([readable(suite), *(f"{number:,}" for number in numbers)])
    repeated = {suite: count["exact"] + count["near"] for suite, count in counts.items()}
    caption = "Prompts prompts in the training text"
    return figure(
        "overlap",
        tables=[
            table(caption, ("Suite",), ("Prompts", "Exact", "Near"), rows),
            *(_both_parts(data, suite) for suite, count in repeated.items() if count),
        ],
        repeated=f"{sum(repeated.values()):,}",
        prompts=f"{len(prompts):,}",
    )


def _both_parts(data: ReportData, suite: str) -> Table:
    """Build the table of rates on the prompts that were found, and on those that were not."""
    metrics = metrics_of(suite_kinds(data).get(suite, "harmful"))
    rows: list[list[Value]] = []
    for (model, stage, decoder, of_suite), outcomes in data.inputs.outcomes.items():
        if of_suite != suite:
            continue
        row: list[Value] = [model, STAGE_NAMES[stage], readable(decoder)]
        for metric in metrics:
            for kinds in FOUND.values():
                part = _part(data, suite, outcomes, kinds)
                count = sum(outcome in EVENTS[metric][1] for outcome in part)
                row.append(rate(count, len(part), data.confidence))
        rows.append(row)
    headings = product((EVENTS[metric][0].capitalize() for metric in metrics), FOUND)
    columns = [f"{event}, {part}" for event, part in headings]
    caption = f"The suite {readable(suite)} in two parts"
    return table(caption, ("Model", "Stage", "Decoder"), columns, rows)


def _part(
    data: ReportData, suite: str, outcomes: Mapping[str, str], kinds: Collection[str]
) -> list[str]:
    overlap = data.inputs.overlap
    return [
        outcome for prompt, outcome in outcomes.items() if overlap.get((suite, prompt)) in kinds
    ]
