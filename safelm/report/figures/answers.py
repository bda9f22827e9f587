"""Figures of answers: attack success (Figure 2), what raises it, and over-refusal (Figure 3)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import polars as pl

from safelm.report.charts.numbers import NONE, readable, short_percent
from safelm.report.data import ReportData
from safelm.report.draw import grouped, measured_figure, pivot, places_of, rows_of
from safelm.report.layout import Figure, Row, Table, name_of, table, table_layout
from safelm.report.measured import Number
from safelm.stats.rates import Rate

WORLD = ("harmful", "benign", "dual_use")  # suites of the embedded world
# Checkpoints of whole stages: the instruction-tuned model begins the line, the finetuned ends it.
ENDS = {"instruct": 0, "finetune": None}


def attack_success(data: ReportData) -> Figure:
    """Draw Figure 2: attack success of every model and stage, greedy and under SafeBeam."""
    asr = data.measured.select(metric="asr", suite="harmful", decoder=data.main_decoders)
    numbers = [replace(number, paper=_paper_asr(data, number)) for number in asr]
    return measured_figure(data, "figure-2", numbers, confidence=short_percent(data.confidence))


def _paper_asr(data: ReportData, number: Number) -> float | None:
    """Return the value of Figure 2, and for the filtered model that of Figure 4, as a share."""
    ablation, plain = data.paper.ablation, data.decoders.plain
    bars = dict(getattr(data.paper.asr, number.stage))
    values = {("safe", data.decoders.safebeam): bars.pop("safebeam")}
    values |= {(part, plain): bar for part, bar in bars.items()}
    if number.stage == ablation.stage:
        values["filtered", plain] = ablation.steps["score_0"]
    value = values.get((data.roles.part(number.group) or "", number.decoder))
    return None if value is None else value / 100


def by_form(data: ReportData) -> Figure:
    """Draw attack success for each form of prompt."""
    key = {"metric": "asr", "suite": "harmful", "decoder": data.main_decoders}
    asr = [number for number in data.measured.select(**key, form=...) if number.form]
    tables = []
    for stage, numbers in grouped(asr, "stage").items():
        tables.append(pivot("forms", numbers, stage=name_of("stage", stage).lower()))
    return measured_figure(data, "forms", asr, tables)


def outcomes(data: ReportData) -> Figure:
    """Draw the outcomes of harmful requests by two judges; the table has further judges."""
    table = _harmful_table(data, "Answers to harmful requests", "harmful", data.main_decoders)
    numbers = []
    measured = data.measured.select(suite="harmful", decoder=data.main_decoders)
    for members in grouped(measured, "group", "stage", "decoder").values():
        counts = {number.metric: number.rate.count for number in members}
        # What the strict judge calls harmful is a bar of its own.
        plain = counts.get("asr", 0) - counts.get("asr_strict", 0)
        for number in members:
            rate = replace(number.rate, count=plain) if number.metric == "asr" else number.rate
            numbers.append(replace(number, rate=rate))
    return measured_figure(data, "judges", numbers, [table])


def _harmful_table(data: ReportData, caption: str, suite: str, decoders: Sequence[str]) -> Table:
    """Build the table of outcomes of a harmful suite, with the attack success by each judge."""
    numbers = data.measured.select(suite=suite, decoder=list(decoders), judge=...)
    judges = sorted({number.judge for number in numbers if number.judge})
    columns = dict(table_layout("harmful")["columns"])
    columns |= {f"asr, {judge}": f"Judge {readable(judge)}" for judge in judges}
    return pivot("harmful", numbers, columns, caption=caption)


def finetuning(data: ReportData) -> Figure:
    """Draw attack success and benign compliance along benign finetuning."""
    numbers = data.safety(stage=list(ENDS), checkpoint=...)
    between = [number for number in numbers if number.checkpoint is not None]
    cells = grouped(between, "group", "decoder")
    whole = []
    for number in numbers:
        if number.checkpoint is None and (number.group, number.decoder) in cells:
            whole.append(replace(number, checkpoint=ENDS[number.stage]))
    return measured_figure(data, "relearning", between + whole)


def harmful_tuning(data: ReportData) -> Figure:
    """Draw the rows of `relearn`: tuning on harmful pairs, and on benign ones as the control."""
    declared = data.declared.relearn
    key = {"row": list(declared), "checkpoint": ...}
    rates = [number for number in data.safety(**key) if number.rate.value is not None]
    losses = data.measured.select(metric="held_out_loss", **key)
    places = places_of([*rates, *losses], "checkpoint")
    stages: list[str] = [row.stage for row in declared.values()]
    decoders, tuned = list(data.declared.decoders), list(declared)

    # Rows of one stage stand beside each other, for comparison with their control.
    def position(number: Number) -> tuple[int, int, str, int]:
        stage, decoder = stages.index(number.stage), decoders.index(number.decoder)
        return stage, decoder, number.metric, tuned.index(number.row or "")

    rows: list[Row] = []
    for names, members in rows_of("tuned-on", rates):
        cells = {number.checkpoint: number for number in members}
        rises = _first_rise(cells) if members[0].metric == "asr" else ""
        rows.append({**names, "rises": rises, **cells})
    pairs = table("tuned-on", rows, {"rises": "Rises after", **places})
    tables = [pairs, pivot("tuned-on-losses", losses, places)]
    return measured_figure(data, "tuned-on", sorted(rates, key=position), tables, places=places)


def _first_rise(numbers: dict[int | None, Number]) -> str:
    """Return the first checkpoint whose whole interval lies above that of checkpoint 0."""
    start = numbers[0].rate.high if 0 in numbers else 1.0
    rising = [pairs or 0 for pairs, one in numbers.items() if (one.rate.low or 0) > (start or 0)]
    return str(min(rising)) if rising else NONE


def attacks(data: ReportData) -> list[Figure]:
    """Draw attack success of every row of `attacks`, a figure for each kind."""
    kinds: dict[str, list[str]] = {}
    for name, row in data.declared.attacks.items():
        kinds.setdefault(row.kind, []).append(name)
    figures = []
    for kind, rows in kinds.items():
        numbers = [one for one in data.measured.select(row=rows, condition=...) if one.condition]
        asr = [number for number in numbers if number.metric == "asr"]
        figures.append(measured_figure(data, kind, asr, [pivot("attack", numbers)]))
    return figures


def harmless(data: ReportData) -> list[Figure]:
    """Draw Figure 3, answers to harmless requests in five labels; and those that sound harmful."""
    paper = data.paper.over_refusal
    numbers = []
    for name in ("standard", "safe"):
        counts = getattr(paper, name).model_dump()
        counts["over_refusal"] = counts["partial_refusal"] + counts["refused"]
        where: dict[str, Any] = {"group": f"the paper, {name}", "decoder": "top-k"}
        for metric, count in counts.items():
            rate = Rate(count, paper.of, count / paper.of, None, None)
            numbers.append(Number(metric=metric, stage="instruct", rate=rate, **where))
    figure_3 = _labels(data, "figure-3", "benign", further=numbers, source=paper.source)
    return [figure_3, _labels(data, "dual-use", "dual_use")]


def _labels(
    data: ReportData, name: str, suite: str, further: Sequence[Number] = (), **words: Any
) -> Figure:
    numbers = data.measured.select(suite=suite, decoder=data.main_decoders)
    # Without answers of ours there is nothing to set beside the paper's.
    numbers += further if numbers else []
    return measured_figure(data, name, numbers, [pivot("harmless", numbers)], **words)


def public_suites(data: ReportData) -> list[Figure]:
    """Draw a figure for each suite beside those of the embedded world, in the order of names."""
    further = data.measured.judges.filter(pl.col("suite").is_in(WORLD).not_())
    figures = []
    for judges in further.partition_by("suite", maintain_order=True):
        suite, kind = judges.row(0)[:2]
        rows = judges.select("first_judge", "judge_kind").iter_rows()
        words: dict[str, Any] = {
            "id": f"suite-{suite.replace('_', '-')}",
            "title": readable(suite),
            "judges": "; ".join([f"{judge}, {name_of('kind', kind)}" for judge, kind in rows]),
            "first": judges.filter("is_first_judge")["first_judge"][0],
        }
        if kind == "harmful":
            numbers = data.measured.select(metric="asr", suite=suite)
            table = _harmful_table(data, f"The suite {words['title']}", suite, data.all_decoders)
            figures.append(measured_figure(data, "harmful-suite", numbers, [table], **words))
        else:
            figures.append(_labels(data, "harmless-suite", suite, **words))
    return figures


def external_models(data: ReportData) -> Figure:
    """Draw attack success and compliance of every row of `external_models`."""
    shown, tables = [], []
    for metric in ("asr", "complied"):
        bars = data.external.select(metric=metric)
        shown += bars
        suites = [*grouped(bars, "suite")]
        tables.append(pivot(f"others-{metric}", data.external.select(suite=suites, judge=...)))
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
