"""Figures of training variants: the ablation (Figure 4), amounts, starts (paper §12), utility."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from itertools import chain, product

from safelm.report.charts.bars import Bar, bars
from safelm.report.charts.numbers import NONE, fixed, readable
from safelm.report.data import ReportData
from safelm.report.draw import grouped, pivot, step_panels
from safelm.report.layout import (
    STAGE_NAMES,
    Cell,
    Figure,
    Panel,
    Table,
    Value,
    chart_label,
    figure,
    rate_cell,
    table,
)
from safelm.report.measured import Number
from safelm.report.roles import STEPS, Group


def ablation(data: ReportData) -> Figure:
    """Draw Figure 4: attack success as one intervention is added to another."""
    paper, stages = data.paper.ablation, data.measured.stages()
    panels: list[Panel] = []
    cells: dict[tuple[str, str], dict[str, Cell]] = {}
    shown = [stage for stage in ("pretrain", paper.stage) if stage in stages]
    for stage in shown:
        rows = []
        for name, group, decoder, step in _steps(data):
            value = paper.steps.get(step) if stage == paper.stage else None
            rate = data.measured.asr(group, stage, decoder)
            bar = Bar(name, data.style(decoder), rate, None if value is None else value / 100)
            rows.append(bar)
            cells.setdefault((name, group.name), {})[stage] = rate_cell(bar.rate, bar.paper)
        label = chart_label("Bars", f"attack success by step of the ablation, {stage}")
        panels.append(Panel(STAGE_NAMES[stage], bars([("", rows)], label, gutter=136.0)))
    body: list[list[Value]] = []
    for heads, by_stage in cells.items():
        body.append([*heads, *(by_stage.get(stage, Cell(NONE)) for stage in shown)])
    missing = [meaning for step, meaning in STEPS.items() if step not in data.roles.ablation]
    columns = [STAGE_NAMES[stage] for stage in shown]
    return figure(
        "figure-4",
        panels,
        legend=data.legend(data.main_decoders),
        paper="the paper",
        tables=[table("Attack success rate by step", ("Step", "Model"), columns, body)],
        missing=f" Not built here: {'; '.join(missing)}." if missing else "",
    )


def _steps(data: ReportData) -> Iterable[tuple[str, Group, str, str]]:
    """Iterate over the bars of Figure 4: (name, group, decoder, the paper's step)."""
    for step, name in STEPS.items():
        group = data.roles.ablation.get(step)
        if group:
            # The last value of Figure 4 is that of the tagged model under SafeBeam.
            yield name, group, data.decoders.plain, "" if step == "tags" else step
            if step == "tags" and data.decoders.safebeam:
                yield "+ SafeBeam", group, data.decoders.safebeam, step


def amounts(data: ReportData) -> list[Figure]:
    """Draw attack success and benign compliance by the amount of each varied ingredient."""
    figures = []
    for name, groups in data.roles.amounts.items():
        built = {amount: group for amount, group in groups.items() if group in data.built}
        if len(built) > 1:
            figures.append(_amount_figure(data, name, built))
    return figures


def _amount_figure(data: ReportData, what: str, groups: Mapping[float, Group]) -> Figure:
    is_rate = what.startswith("rate")
    places = {
        group.name: f"{amount * 100:g} %" if is_rate else f"{amount:g}"
        for amount, group in groups.items()
    }
    numbers = _safety(data, [*data.main_decoders, data.decoders.branch or ""])
    numbers = [number for number in numbers if number.group in places]
    panels = []
    for (_, stage), members in grouped(numbers, "metric", "stage").items():
        what_is_drawn = f"{members[0].metric} by {what}, {STAGE_NAMES[stage].lower()}"
        panels += step_panels(
            members,
            STAGE_NAMES[stage],
            places,
            lambda number: number.group,
            across=what,
            what=what_is_drawn,
            series="decoder",
            style=data.style,
        )
    heads = ("metric", "stage", "decoder")
    return figure(
        f"amounts-{what.replace(' ', '-')}",
        panels,
        text="amounts",
        legend=data.legend(grouped(numbers, "decoder")),
        tables=[pivot(f"By {what}", numbers, heads, places, lambda number: number.group)],
        what=what,
        models=", ".join(f"{place} ({name})" for name, place in places.items()),
    )


def _safety(data: ReportData, decoders: list[str]) -> list[Number]:
    """Select attack success, then benign compliance."""
    asr = data.measured.select(metric="asr", suite="harmful", decoder=decoders)
    return asr + data.measured.select(metric="complied", suite="benign", decoder=decoders)


def starts(data: ReportData) -> Figure | None:
    """Draw attack success by the share of training before interventions are read."""
    asr = data.measured.select(metric="asr", suite="harmful", decoder=data.main_decoders)
    by_group = grouped(asr, "group")
    numbers = []
    for schedule, groups in data.roles.starts.items():
        built = [(start, by_group[g.name]) for start, g in groups.items() if g.name in by_group]
        for start, members in built if len(built) > 1 else []:
            # A model may stand in several schedules: they are told apart by the column `row`.
            numbers += [replace(n, row=schedule, bin_edge=start) for n in members]
    if not numbers:
        return None
    shares = sorted({number.bin_edge or 0.0 for number in numbers})
    places = {share: f"{share * 100:.0f} %" for share in shares}
    panels = []
    for (stage, decoder), members in _by_cell(data, numbers):
        title = f"{STAGE_NAMES[stage]}, {readable(decoder)}"
        panels += step_panels(
            members,
            title,
            places,
            lambda number: number.bin_edge,
            across="start",
            what=f"attack success by start, {title.lower()}",
            series="row",
        )
    heads = ("row", "stage", "decoder")
    caption = "Attack success rate by start"
    tables = [pivot(caption, numbers, heads, places, lambda number: number.bin_edge)]
    return figure("starts", panels, tables=tables)


def _by_cell(data: ReportData, numbers: list[Number]) -> list[tuple[tuple[str, str], list[Number]]]:
    """Group numbers by stage and decoder, in the order of params.yaml."""
    groups = grouped(numbers, "stage", "decoder")
    order = product(data.measured.stages(), data.all_decoders)
    return [(cell, groups[cell]) for cell in order if cell in groups]


def utility(data: ReportData) -> Figure:
    """Draw the accuracy of every model and stage."""
    measured, stages = data.measured, data.measured.stages()
    panels = []
    for stage in stages:
        rows = [Bar(group.name, "s1", measured.accuracy(group, stage)) for group in data.built]
        label = chart_label("Bars", f"accuracy, {STAGE_NAMES[stage].lower()}")
        panels.append(Panel(STAGE_NAMES[stage], bars([("", rows)], label)))
    body: list[list[Value]] = []
    for group in data.built:
        row: list[Value] = [group.name]
        for stage in stages:
            suite = measured.utility_suite
            perplexity = measured.rate("perplexity", group, stage, suite=suite)
            row.append(measured.accuracy(group, stage))
            row.append(fixed(perplexity.value if perplexity else None, 2))
        # The paper has no utility of the tagged model; that of the step before stands for it.
        step = "moral" if group.step == "tags" else group.step or ""
        body.append([*row, fixed(data.paper.utility.steps.get(step), 1)])
    columns = [*chain(*((STAGE_NAMES[stage], "perplexity") for stage in stages))]
    columns.append("Paper, mean of nine tasks")
    first = table("Accuracy and perplexity", ("Model",), columns, body)
    return figure("utility", panels, tables=[first, *_tasks(data)])


def _tasks(data: ReportData) -> list[Table]:
    """Build the table of lm-evaluation-harness: a column for each task and metric."""
    frame = data.measured.frame
    suites = set(frame.filter(suite_kind="utility")["suite"]) - {data.measured.utility_suite}
    numbers = data.measured.select(suite=sorted(suites))
    if not numbers:
        return []
    tasks = sorted(grouped(numbers, "suite", "metric"))
    columns = {task: readable(", ".join(task)) for task in tasks}
    caption = "Tasks of lm-evaluation-harness"
    return [pivot(caption, numbers, ("group", "stage"), columns, lambda n: (n.suite, n.metric))]
