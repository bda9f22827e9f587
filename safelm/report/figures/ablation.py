"""Figures of training variants: the ablation (Figure 4), amounts, starts (paper §12), utility."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain

from safelm.report.charts.numbers import readable
from safelm.report.data import ReportData
from safelm.report.draw import by_stage, grouped, measured_figure, pivot
from safelm.report.layout import STAGE_NAMES, Figure, Table
from safelm.report.measured import STAGES, Number
from safelm.report.roles import STEPS, Group
from safelm.stats.rates import Rate


def ablation(data: ReportData) -> Figure:
    """Draw Figure 4: attack success as one intervention is added to another."""
    paper, steps = data.paper.ablation, data.roles.ablation
    stages = [stage for stage in STAGES if stage in ("pretrain", paper.stage)]
    drawn = (_step(data, step, steps[step], stages) for step in STEPS if step in steps)
    numbers = by_stage(chain(*drawn))
    built = data.measured.stages()
    columns = {stage: STAGE_NAMES[stage] for stage in stages if stage in built}
    missing = [meaning for step, meaning in STEPS.items() if step not in steps]
    return measured_figure(
        data,
        "figure-4",
        numbers,
        [pivot("figure-4", numbers, columns, on="stage")],
        missing=f" Not built here: {'; '.join(missing)}." if missing else "",
    )


def _step(data: ReportData, step: str, group: Group, stages: list[str]) -> Iterator[Number]:
    """Iterate over the bars of a step, with its name as the row and the paper's value."""
    paper, plain, safebeam = data.paper.ablation, data.decoders.plain, data.decoders.safebeam
    # The last value of Figure 4 is that of the tagged model under SafeBeam.
    names = {plain: STEPS[step]}
    if step == "tags" and safebeam:
        names[safebeam] = "+ SafeBeam"
    key = {"group": group.name, "stage": stages, "decoder": list(names)}
    for number in data.measured.select(metric="asr", suite="harmful", **key):
        has_value = number.stage == paper.stage and (step != "tags" or number.decoder == safebeam)
        value = paper.steps[step] / 100 if has_value else None
        yield replace(number, row=names[number.decoder], paper=value)


def amounts(data: ReportData) -> list[Figure]:
    """Draw attack success and benign compliance by the amount of each varied ingredient."""
    figures = []
    for name, groups in data.roles.amounts.items():
        built = {amount: group for amount, group in groups.items() if group in data.built}
        if len(built) > 1:
            figures.append(_amount_figure(data, name, built))
    return figures


def _amount_figure(data: ReportData, what: str, groups: Mapping[float, Group]) -> Figure:
    unit, factor = (" %", 100) if what.startswith("rate") else ("", 1)
    places = {group.name: f"{amount * factor:g}{unit}" for amount, group in groups.items()}
    key = {"group": list(places), "decoder": [*data.main_decoders, data.decoders.branch or ""]}
    numbers = data.measured.select(metric="asr", suite="harmful", **key)
    numbers += data.measured.select(metric="complied", suite="benign", **key)
    return measured_figure(
        data,
        f"amounts-{what.replace(' ', '-')}",
        numbers,
        [pivot("amounts", numbers, places, on="group", what=what)],
        text="amounts",
        places=places,
        what=what,
        models=", ".join(f"{place} ({name})" for name, place in places.items()),
    )


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
    shares = sorted({number.bin_edge or 0.0 for number in numbers})
    places = {share: f"{share * 100:.0f} %" for share in shares}
    tables = [pivot("starts", numbers, places, on="bin_edge")]
    return measured_figure(data, "starts", by_stage(numbers), tables, places=places)


def utility(data: ReportData) -> Figure:
    """Draw the accuracy of every model and stage."""
    measured = data.measured
    suite = measured.utility_suite
    accuracy = measured.select(metric="accuracy", suite=suite)
    numbers = [*accuracy, *measured.select(metric="perplexity", suite=suite), *_paper(data)]
    columns = {}
    for stage in measured.stages():
        columns[f"accuracy, {stage}"] = STAGE_NAMES[stage]
        columns[f"perplexity, {stage}"] = "perplexity"
    columns["paper, pretrain"] = "Paper, mean of nine tasks"
    tables = [pivot("utility", numbers, columns, on=("metric", "stage")), _tasks(data)]
    return measured_figure(data, "utility", by_stage(accuracy), tables)


def _paper(data: ReportData) -> Iterator[Number]:
    """Iterate over the paper's utility of each group's step, in percent."""
    for group in data.built:
        # The paper has none of the tagged model; that of the step before stands for it.
        value = data.paper.utility.steps.get("moral" if group.step == "tags" else group.step or "")
        rate = Rate(0, 0, value, None, None)
        yield Number(metric="paper", group=group.name, stage="pretrain", rate=rate)


def _tasks(data: ReportData) -> Table:
    """Build the table of lm-evaluation-harness: a column for each task and metric."""
    frame = data.measured.frame
    suites = set(frame.filter(suite_kind="utility")["suite"]) - {data.measured.utility_suite}
    numbers = data.measured.select(suite=sorted(suites))
    tasks = [", ".join(task) for task in sorted(grouped(numbers, "suite", "metric"))]
    columns = {task: readable(task) for task in tasks}
    return pivot("tasks", numbers, columns, on=("suite", "metric"))
