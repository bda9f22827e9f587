"""Figures of answers: attack success (Figure 2), by form, by judge, and over-refusal (Figure 3)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from safelm.report.charts.numbers import NONE, readable, short_percent
from safelm.report.data import ReportData
from safelm.report.draw import grouped, measured_figure, pivot
from safelm.report.figures.makers import kind_of
from safelm.report.layout import STAGE_NAMES, Figure, Row, Table, table, table_layout
from safelm.report.measured import Number
from safelm.stats.rates import Rate

WORLD = ("harmful", "benign", "dual_use")  # suites of the embedded world


def attack_success(data: ReportData) -> Figure:
    """Draw Figure 2: attack success of every model and stage, greedy and under SafeBeam."""
    asr = data.measured.select(metric="asr", suite="harmful", decoder=data.main_decoders)
    numbers = [replace(number, paper=_paper_asr(data, number)) for number in asr]
    return measured_figure(data, "figure-2", numbers, confidence=short_percent(data.confidence))


def _paper_asr(data: ReportData, number: Number) -> float | None:
    """Return the value of Figure 2, and for the filtered model that of Figure 4, as a share."""
    figure_2, ablation = getattr(data.paper.asr, number.stage), data.paper.ablation
    values: dict[tuple[str | None, str | None], float] = {
        ("standard", data.decoders.plain): figure_2.standard,
        ("safe", data.decoders.plain): figure_2.safe,
        ("safe", data.decoders.safebeam): figure_2.safebeam,
    }
    if number.stage == ablation.stage:
        values["filtered", data.decoders.plain] = ablation.steps["score_0"]
    value = values.get((data.roles.part(number.group), number.decoder))
    return None if value is None else value / 100


def by_form(data: ReportData) -> Figure:
    """Draw attack success for each form of prompt."""
    key = {"metric": "asr", "suite": "harmful", "decoder": data.main_decoders}
    asr = [number for number in data.measured.select(**key, form=...) if number.form]
    tables = []
    for stage, numbers in grouped(asr, "stage").items():
        tables.append(pivot("forms", numbers, stage=STAGE_NAMES[stage].lower()))
    return measured_figure(data, "forms", asr, tables)


def outcomes(data: ReportData) -> Figure:
    """Draw the outcomes of harmful requests by two judges; the table has further judges."""
    numbers = data.measured.select(suite="harmful", decoder=data.main_decoders)
    table = _harmful_table(data, "Answers to harmful requests", "harmful", data.main_decoders)
    return measured_figure(data, "judges", list(_apart(numbers)), [table])


def _apart(numbers: Sequence[Number]) -> Iterator[Number]:
    """Take what the strict judge calls harmful out of what the plain judge calls so."""
    cells = grouped(numbers, "metric", "group", "stage", "decoder")
    for (metric, *cell), (number,) in cells.items():
        strict = cells.get(("asr_strict", *cell))
        if metric == "asr" and strict:
            count = number.rate.count - strict[0].rate.count
            number = replace(number, rate=replace(number.rate, count=count))
        yield number


def _harmful_table(data: ReportData, caption: str, suite: str, decoders: Sequence[str]) -> Table:
    """Build the table of outcomes of a harmful suite, with the attack success by each judge."""
    numbers = data.measured.select(suite=suite, decoder=list(decoders), judge=...)
    judges = sorted({number.judge for number in numbers if number.judge})
    columns = dict(table_layout("harmful")["columns"])
    columns |= {f"asr, {judge}": f"Judge {readable(judge)}" for judge in judges}
    return pivot("harmful", numbers, columns, caption=caption)


def harmless(data: ReportData) -> list[Figure]:
    """Draw Figure 3, answers to harmless requests in five labels; and those that sound harmful."""
    paper, source = list(_paper_labels(data)), data.paper.over_refusal.source
    figure_3 = _labels(data, "benign", "figure-3", further=paper, source=source)
    return [figure_3, _labels(data, "dual_use", "dual-use")]


def _labels(
    data: ReportData, suite: str, id: str, further: Sequence[Number] = (), **words: Any
) -> Figure:
    numbers = data.measured.select(suite=suite, decoder=data.main_decoders)
    # Without answers of ours there is nothing to set beside the paper's.
    numbers += further if numbers else []
    return measured_figure(data, id, numbers, [pivot("harmless", numbers)], **words)


def _paper_labels(data: ReportData) -> Iterator[Number]:
    """Iterate over the paper's counts of each label."""
    paper = data.paper.over_refusal
    for name in ("standard", "safe"):
        counts = getattr(paper, name).model_dump()
        counts["over_refusal"] = counts["partial_refusal"] + counts["refused"]
        for metric, count in counts.items():
            rate = Rate(count, paper.of, count / paper.of, None, None)
            group = f"the paper, {name}"
            yield Number(metric=metric, group=group, stage="instruct", decoder="top-k", rate=rate)


def public_suites(data: ReportData) -> list[Figure]:
    """Draw a figure for each suite beside those of the embedded world, in the order of names."""
    judges = data.measured.judges.filter(pl.col("suite").is_in(WORLD).not_())
    return [_public_suite(data, rows) for rows in judges.partition_by("suite", maintain_order=True)]


def _public_suite(data: ReportData, judges: pl.DataFrame) -> Figure:
    suite, kind = judges.row(0)[:2]
    kinds = judges.select("first_judge", "judge_kind").iter_rows()
    words: dict[str, Any] = {
        "name": readable(suite),
        "judges": "; ".join(f"{judge}, {kind_of(kind)}" for judge, kind in kinds),
        "first": judges.filter("is_first_judge")["first_judge"][0],
    }
    id = f"suite-{suite.replace('_', '-')}"
    if kind != "harmful":
        return _labels(data, suite, id, text="harmless-suite", **words)
    numbers = data.measured.select(metric="asr", suite=suite)
    table = _harmful_table(data, f"The suite {words['name']}", suite, data.all_decoders)
    return measured_figure(data, id, numbers, [table], text="harmful-suite", **words)


def external_models(data: ReportData) -> Figure:
    """Draw attack success and compliance of every row of `external_models`."""
    everything = data.external.select()
    shown, tables = [], []
    for metric in ("asr", "complied"):
        bars = [number for number in everything if number.metric == metric]
        suites = grouped(bars, "suite")
        shown += bars
        numbers = [number for number in everything if number.suite in suites and number.decoder]
        tables.append(pivot(f"others-{metric}", numbers))
    tables.append(table("others-utility", _utility(data)))
    models = []
    for number in data.external.select(metric="knows_tag"):
        chat = number.stage == "instruct"
        how = "prompted in its chat format" if chat else "continues the prompts"
        tag = "knows" if number.rate.value else "does not know"
        models.append(f"{number.group}: {how}, {tag} the tag.")
    return measured_figure(data, "others", shown, tables, models=" ".join(models))


def _utility(data: ReportData) -> Iterator[Row]:
    """Iterate over rows of multiple choice and of lm-evaluation-harness, where measured."""
    suites = data.external.frame.filter(suite_kind="utility")["suite"].unique().to_list()
    numbers, own = data.external.select(suite=suites), data.external.utility_suite
    for number in numbers:
        row = {"group": number.group, "rate": number.rate}
        if number.metric == "accuracy":
            found = data.external.rate("perplexity", number.group, number.stage)
            value = f"{found.value:.2f}" if found else NONE
            yield {**row, "task": "multiple choice", "measure": f"{value} perplexity"}
        elif number.suite != own and number.rate.of:
            task, measure = readable(number.suite), readable(number.metric)
            yield {**row, "task": task, "measure": measure}
