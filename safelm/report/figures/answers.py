"""Figures of answers: attack success (Figure 2), by form, by judge, and over-refusal (Figure 3)."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

import polars as pl
from markupsafe import Markup

from safelm.report.charts.bars import Stack
from safelm.report.charts.heatmap import Square, heat_map
from safelm.report.charts.numbers import NONE, percent, rate_text, readable, short_percent
from safelm.report.data import ReportData
from safelm.report.draw import (
    CELL,
    HEADS,
    bar_chart,
    grouped,
    metric_columns,
    named,
    panels,
    pivot,
    stack_chart,
    stack_rows,
)
from safelm.report.layout import (
    STAGE_NAMES,
    Cell,
    Figure,
    Panel,
    Table,
    Value,
    chart_label,
    figure,
    table,
)
from safelm.report.measured import Number

LABELS = {  # the five labels of the over-refusal judge (paper §8.1)
    "complied": ("l1", "complied and helpful"),
    "unhelpful": ("l2", "complied, not helpful"),
    "partial_refusal": ("l3", "declined, then answered"),
    "refused": ("l4", "declined"),
    "short_circuit": ("l5", "stopped at the tag"),
}
OUTCOMES = (
    ("l4", "harmful, by both judges"),
    ("l3", "harmful, by the plain judge alone"),
    ("s5", "neither"),
    ("l1", "declined"),
)
WORLD = ("harmful", "benign", "dual_use")  # suites of the embedded world
JUDGES = {
    "demo": "the rule of the embedded world",
    "refusal_phrases": "declining phrases, for which even broken text counts as compliance",
    "scorer": "a fitted scorer",
    "llm": "a language model",
}


def attack_success(data: ReportData) -> Figure:
    """Draw Figure 2: attack success of every model and stage, greedy and under SafeBeam."""
    asr = data.measured.select(metric="asr", suite="harmful", decoder=data.main_decoders)
    numbers = [replace(number, paper=_paper_asr(data, number)) for number in asr]
    stages = {stage: STAGE_NAMES[stage] for stage in data.measured.stages()}
    columns = pivot(
        "Attack success rate", numbers, ("group", "decoder"), stages, lambda number: number.stage
    )
    return figure(
        "figure-2",
        panels(numbers, "stage", lambda rows, at: bar_chart(data, rows, f"attack success, {at}")),
        legend=data.legend(data.main_decoders),
        paper="the paper (1.7 billion parameters)",
        tables=[columns],
        confidence=short_percent(data.confidence),
    )


def _paper_asr(data: ReportData, number: Number) -> float | None:
    """Return the value of Figure 2, and for the filtered model that of Figure 4, as a share."""
    figure_2, ablation = getattr(data.paper.asr, number.stage), data.paper.ablation
    part = data.roles.part(number.group)
    if part == "safe" and number.decoder == data.decoders.safebeam:
        return figure_2.safebeam / 100
    if part is None or number.decoder != data.decoders.plain:
        return None
    if part == "filtered":
        return ablation.steps["score_0"] / 100 if number.stage == ablation.stage else None
    return getattr(figure_2, part) / 100


def by_form(data: ReportData) -> Figure | None:
    """Draw attack success for each form of prompt."""
    key = {"metric": "asr", "suite": "harmful", "decoder": data.main_decoders}
    asr = [number for number in data.measured.select(**key, form=...) if number.form]
    drawn, tables = [], []
    for stage, numbers in grouped(asr, "stage").items():
        columns = {form: readable(form) for form in grouped(numbers, "form")}
        rows = []
        for (group, decoder), members in grouped(numbers, "group", "decoder").items():
            squares = {number.form: _square(number) for number in members}
            missing = Square(NONE, None, "")
            cells = [squares.get(form, missing) for form in columns]
            rows.append((f"{group}, {readable(decoder)}", cells))
        what = f"Attack success rate by form of prompt: {STAGE_NAMES[stage].lower()}"
        label = chart_label("Grid", what)
        chart = heat_map(rows, list(columns.values()), label, gutter=124.0)
        drawn.append(Panel(STAGE_NAMES[stage], chart))
        tables.append(pivot(what, numbers, ("group", "decoder"), columns, lambda n: n.form))
    return figure("forms", drawn, tables=tables) if drawn else None


def _square(number: Number) -> Square:
    value = number.rate.value
    text = NONE if value is None else f"{value * 100:.0f}"
    return Square(text, value, rate_text(number.rate))


def outcomes(data: ReportData) -> Figure | None:
    """Draw the outcomes of harmful requests by two judges; the table has further judges."""
    key = {"suite": "harmful", "decoder": data.main_decoders}
    numbers = data.measured.select(**key)
    if not numbers:
        return None

    def draw(rows: list[Number], at: str) -> Markup:
        return stack_chart(stack_rows(rows, _fates), f"outcomes of harmful requests, {at}")

    return figure(
        "judges",
        panels(numbers, "stage", draw),
        legend=OUTCOMES,
        tables=[_harmful_table(data, "Answers to harmful requests", "harmful", data.main_decoders)],
    )


def _fates(counts: dict[str, int]) -> list[tuple[str, str, int]]:
    asr = counts.get("asr", 0)
    # The strict judge sees a part of what the plain judge calls harmful.
    strict = min(counts.get("asr_strict", 0), asr)
    parts = (strict, asr - strict, counts.get("neither", 0), counts.get("refused", 0))
    return [(*outcome, part) for outcome, part in zip(OUTCOMES, parts, strict=True)]


def _harmful_table(data: ReportData, caption: str, suite: str, decoders: Sequence[str]) -> Table:
    """Build the table of outcomes of a harmful suite, with the attack success by each judge."""
    numbers = data.measured.select(suite=suite, decoder=list(decoders), judge=...)
    judges = sorted({number.judge for number in numbers if number.judge})
    metrics = metric_columns("asr", "asr_strict", "refused", "neither", "unjudged")
    columns: dict[tuple[str, str | None], str] = {}
    columns |= {(metric, None): name for metric, name in metrics.items()}
    columns |= {("asr", judge): f"Judge {readable(judge)}" for judge in judges}
    return pivot(caption, numbers, CELL, columns, lambda number: (number.metric, number.judge))


def over_refusal(data: ReportData, suite: str, id: str, text: str, **words: str) -> Figure:
    """Draw Figure 3: answers to harmless requests, in five labels."""
    numbers = data.measured.select(suite=suite, decoder=data.main_decoders)
    paper = data.paper.over_refusal if suite == "benign" else None

    def draw(rows: list[Number], at: str) -> Markup:
        stacks = stack_rows(rows, _labels)
        if paper and rows[0].stage == "instruct":
            names = ("standard", "safe")
            ours = [Stack(n, _labels(getattr(paper, n).model_dump())) for n in names]
            stacks.append((f"the paper ({paper.source})", ours))
        return stack_chart(stacks, f"answers to harmless requests, {at}")

    rows: list[Sequence[Value]] = []
    for members in grouped(numbers, *CELL).values():
        rates = {number.metric: number.rate for number in members}
        row = (*named(members[0], *CELL), *(rates.get(label) for label in LABELS))
        rows.append((*row, rates.get("over_refusal")))
    rows += _paper_rows(data) if paper else []
    columns = [*(meaning.capitalize() for _, meaning in LABELS.values()), "Over-refusal"]
    heads = [HEADS[column] for column in CELL]
    tables = [table("Answers to harmless requests", heads, columns, rows)]
    legend = list(LABELS.values())
    drawn = panels(numbers, "stage", draw)
    return figure(id, drawn, text=text, legend=legend, tables=tables, **words)


def _labels(counts: dict[str, int]) -> list[tuple[str, str, int]]:
    return [(*style, counts.get(label, 0)) for label, style in LABELS.items()]


def _paper_rows(data: ReportData) -> Iterator[list[Value]]:
    paper = data.paper.over_refusal
    for name in ("standard", "safe"):
        counts = getattr(paper, name).model_dump()
        counts["over_refusal"] = counts["partial_refusal"] + counts["refused"]
        shares = {
            label: Cell(percent(n / paper.of), f"{n}/{paper.of}") for label, n in counts.items()
        }
        cells = [shares.get(label, Cell(NONE)) for label in (*LABELS, "over_refusal")]
        yield [f"the paper, {name}", STAGE_NAMES["instruct"], "top-k", *cells]


def harmless(data: ReportData) -> list[Figure]:
    """Draw the answers to the harmless suites of the embedded world."""
    figure_3 = over_refusal(data, "benign", "figure-3", "figure-3")
    return [figure_3, over_refusal(data, "dual_use", "dual-use", "dual-use")]


def public_suites(data: ReportData) -> list[Figure]:
    """Draw a figure for each suite beside those of the embedded world, in the order of names."""
    rows = data.measured.frame.filter(pl.col("first_judge").is_not_null(), pl.col("row").is_null())
    columns = ("suite", "suite_kind", "first_judge", "judge_kind", "is_first_judge")
    judged = rows.select(columns).unique().sort(columns)
    suites = judged.partition_by("suite", maintain_order=True, as_dict=True)
    return [
        _public_suite(data, name, rows) for (name,), rows in suites.items() if name not in WORLD
    ]


def _public_suite(data: ReportData, suite: str, judges: pl.DataFrame) -> Figure:
    kinds = judges.select("first_judge", "judge_kind").iter_rows()
    first = judges.filter("is_first_judge")["first_judge"][0]
    words = {
        "name": readable(suite),
        "judges": "; ".join(f"{judge}, {JUDGES[kind]}" for judge, kind in kinds),
        "first": first,
    }
    id = f"suite-{suite.replace('_', '-')}"
    if judges["suite_kind"][0] != "harmful":
        return over_refusal(data, suite, id, "harmless-suite", **words)
    numbers = data.measured.select(metric="asr", suite=suite)
    what = f"attack success on {readable(suite)}"
    return figure(
        id,
        panels(numbers, "stage", lambda rows, at: bar_chart(data, rows, f"{what}, {at}")),
        text="harmful-suite",
        legend=data.legend(grouped(numbers, "decoder")),
        tables=[_harmful_table(data, f"The suite {words['name']}", suite, data.all_decoders)],
        **words,
    )
