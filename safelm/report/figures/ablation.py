"""Figures of training variants: the ablation (Figure 4), amounts, starts (paper §12), utility."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from typing import Any

from safelm.report.charts.numbers import readable
from safelm.report.data import ReportData
from safelm.report.draw import by_stage, grouped, measured_figure, pivot
from safelm.report.layout import Figure, Table, name_of, names_of
from safelm.report.measured import Number
from safelm.report.roles import Group
from safelm.stats.rates import Rate


def ablation(data: ReportData) -> Figure:
    """Draw Figure 4: attack success as one intervention is added to another."""
    steps, names = data.roles.ablation, names_of("step")
    numbers = by_stage(chain(*(_step(data, step, steps[step]) for step in names if step in steps)))
    absent = "; ".join(meaning for step, meaning in names.items() if step not in steps)
    missing = f" Not built here: {absent}." if absent else ""
    return measured_figure(data, "figure-4", numbers, missing=missing)


def _step(data: ReportData, step: str, group: Group) -> Iterator[Number]:
    """Iterate over the bars of a step, with its name as the row and the paper's value."""
    paper, plain, safebeam = data.paper.ablation, data.decoders.plain, data.decoders.safebeam
    # The last value of Figure 4 is that of the tagged model under SafeBeam.
    names = {plain: name_of("step", step)}
    if step == "tags" and safebeam:
        names[safebeam] = "+ SafeBeam"
    key = {"group": group.name, "stage": ["pretrain", paper.stage], "decoder": list(names)}
    for number in data.measured.select(metric="asr", suite="harmful", **key):
        has_value = number.stage == paper.stage and (step != "tags" or number.decoder == safebeam)
        value = paper.steps[step] / 100 if has_value else None
        yield replace(number, row=names[number.decoder], paper=value)


def amounts(data: ReportData) -> list[Figure]:
    """Draw attack success and benign compliance by the amount of each varied ingredient."""
    decoders = [*data.main_decoders, data.decoders.branch]
    figures = []
    for what, groups in data.roles.amounts.items():
        unit, factor = (" %", 100) if what.startswith("rate") else ("", 1)
        built = {amount: group.name for amount, group in groups.items() if group in data.built}
        places = {name: f"{amount * factor:g}{unit}" for amount, name in built.items()}
        words: dict[str, Any] = {
            "id": f"amounts-{what.replace(' ', '-')}",
            "what": what,
            "models": ", ".join(f"{place} ({name})" for name, place in places.items()),
        }
        numbers = data.safety(group=list(places), decoder=decoders)
        # A series of one model compares nothing.
        if len(built) > 1:
            figures.append(measured_figure(data, "amounts", numbers, places=places, **words))
    return figures


def starts(data: ReportData) -> Figure:
    """Draw attack success by the share of training before interventions are read."""
    asr = data.measured.select(metric="asr", suite="harmful", decoder=data.main_decoders)
    by_group = grouped(asr, "group")
    numbers = []
    for schedule, groups in data.roles.starts.items():
        built = [(start, by_group[g.name]) for start, g in groups.items() if g.name in by_group]
        for start, members in built if len(built) > 1 else []:
            # A model may stand in several schedules: they are told apart by the column `row`.
            numbers += [replace(n, row=schedule, bin_edge=start) for n in members]
    places = {share: f"{share * 100:.0f} %" for share in sorted(grouped(numbers, "bin_edge"))}
    tables = [pivot("starts", numbers, places)]
    return measured_figure(data, "starts", by_stage(numbers), tables, places=places)


def utility(data: ReportData) -> Figure:
    """Draw the accuracy of every model and stage."""
    measured = data.measured
    numbers = measured.select(metric=["accuracy", "perplexity"], suite=measured.utility_suite)
    columns = {}
    for stage in measured.stages():
        columns[f"accuracy, {stage}"] = name_of("stage", stage)
        columns[f"perplexity, {stage}"] = "perplexity"
    columns["paper, pretrain"] = "Paper, mean of nine tasks"
    papers = []
    for group in data.built:
        # The paper has none of the tagged model; that of the step before stands for it.
        step = "moral" if group.step == "tags" else group.step
        rate = Rate(0, 0, data.paper.utility.steps.get(step or ""), None, None)
        papers.append(Number(metric="paper", group=group.name, stage="pretrain", rate=rate))
    tables = [pivot("utility", numbers + papers, columns), _tasks(data)]
    accuracy = [number for number in numbers if number.metric == "accuracy"]
    return measured_figure(data, "utility", by_stage(accuracy), tables)


def _tasks(data: ReportData) -> Table:
    """Build the table of lm-evaluation-harness: a column for each task and metric."""
    frame = data.measured.frame
    suites = set(frame.filter(suite_kind="utility")["suite"]) - {data.measured.utility_suite}
    numbers = data.measured.select(suite=sorted(suites))
    tasks = [", ".join(task) for task in sorted(grouped(numbers, "suite", "metric"))]
    return pivot("tasks", numbers, {task: readable(task) for task in tasks})
