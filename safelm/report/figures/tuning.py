"""Figures of further tuning: benign finetuning, and harmful pairs with their control."""

from collections.abc import Sequence
from dataclasses import replace

from safelm.report.charts.numbers import NONE, fixed, readable
from safelm.report.data import ReportData
from safelm.report.draw import METRICS, Groups, grouped, named, pivot, step_panels
from safelm.report.layout import STAGE_NAMES, Figure, Table, Value, figure, rate_cell, table
from safelm.report.measured import Number

END = "all"
START = {"instruct": 0, "finetune": None}  # the checkpoints of whole stages
SAFETY = {"asr": "harmful", "complied": "benign"}  # metric: suite


def _safety(data: ReportData, **columns: object) -> list[Number]:
    """Select attack success, then benign compliance, at all checkpoints."""
    numbers = []
    for metric, suite in SAFETY.items():
        numbers += data.measured.select(metric=metric, suite=suite, checkpoint=..., **columns)
    return numbers


def finetuning(data: ReportData) -> Figure | None:
    """Draw attack success and benign compliance along benign finetuning."""
    between = [n for n in _safety(data, stage="finetune") if n.checkpoint is not None]
    cells = grouped(between, "group", "decoder")
    if not cells:
        return None
    # The instruction-tuned model is the start of the line, the finetuned one its end.
    whole = [
        replace(number, checkpoint=START[number.stage])
        for number in _safety(data, stage=list(START))
        if number.checkpoint is None and (number.group, number.decoder) in cells
    ]
    checkpoints = sorted({number.checkpoint or 0 for number in between})
    places: dict[int | None, str] = {pairs: str(pairs) for pairs in (0, *checkpoints)}
    places[None] = END
    numbers = [*between, *whole]
    panels = []
    for (decoder, metric), members in grouped(numbers, "decoder", "metric").items():
        title = f"{METRICS[metric]}, {readable(decoder)}"
        panels += step_panels(
            members,
            title,
            places,
            lambda number: number.checkpoint,
            across="pairs of benign finetuning",
            what=f"{title.lower()} along benign finetuning",
        )
    heads = ("group", "decoder", "metric")
    rows = pivot("Along benign finetuning", numbers, heads, places, lambda n: n.checkpoint)
    return figure("relearning", panels, tables=[rows], end=END)


def harmful_tuning(data: ReportData) -> Figure | None:
    """Draw the rows of `relearn`: tuning on harmful pairs, and on benign ones as the control."""
    declared = data.declared.relearn
    rates = [n for n in _safety(data, row=list(declared)) if n.rate.value is not None]
    losses = data.measured.select(metric="held_out_loss", row=list(declared), checkpoint=...)
    if not rates and not losses:
        return None
    checkpoints = sorted({number.checkpoint or 0 for number in (*rates, *losses)})
    panels = []
    cells = grouped(rates, "stage", "decoder", "metric", "row")
    # Rows of one stage stand beside each other, for comparison with their control.
    for (stage, decoder, metric, row), members in _in_order(data, cells):
        part = declared[row].part
        title = (
            f"{METRICS[metric]}, {part} pairs: {STAGE_NAMES[stage].lower()}, {readable(decoder)}"
        )
        own = sorted({number.checkpoint or 0 for number in members})
        panels += step_panels(
            members,
            title,
            {pairs: str(pairs) for pairs in own},
            lambda number: number.checkpoint,
            across=f"{part} pairs",
            what=title.lower(),
        )
    return figure(
        "tuned-on",
        panels,
        tables=[_pairs_table(rates, checkpoints), _loss_table(losses, checkpoints)],
    )


def _in_order(data: ReportData, cells: Groups) -> list[tuple[tuple[str, ...], list[Number]]]:
    stages = [str(row.stage) for row in data.declared.relearn.values()]
    orders = (stages, list(data.declared.decoders), list(SAFETY), list(data.declared.relearn))
    return sorted(
        cells.items(),
        key=lambda cell: [order.index(name) for order, name in zip(orders, cell[0], strict=True)],
    )


def _pairs_table(numbers: Sequence[Number], checkpoints: Sequence[int]) -> Table:
    rows: list[list[Value]] = []
    for members in grouped(numbers, "row", "decoder", "metric", "group").values():
        rates = {number.checkpoint: number.rate for number in members}
        cells = [rate_cell(rates.get(pairs)) for pairs in checkpoints]
        rises = _first_rise(members) if members[0].metric == "asr" else ""
        rows.append([*named(members[0], "row", "group", "decoder", "metric"), rises, *cells])
    heads = ("Row", "Model", "Decoder", "Rate")
    columns = ["Rises after", *map(str, checkpoints)]
    return table("By the pairs that were read", heads, columns, rows)


def _first_rise(numbers: Sequence[Number]) -> str:
    """Return the first checkpoint whose whole interval lies above that of checkpoint 0."""
    rates = {number.checkpoint or 0: number.rate for number in numbers}
    start = rates.get(0)
    for checkpoint, rate in sorted(rates.items()):
        if start and (rate.low or 0.0) > (start.high or 0.0):
            return str(checkpoint)
    return NONE


def _loss_table(numbers: Sequence[Number], checkpoints: Sequence[int]) -> Table:
    rows: list[list[Value]] = []
    for members in grouped(numbers, "row", "group").values():
        losses = {number.checkpoint: number.rate.value for number in members}
        shown = [fixed(losses.get(pairs), 2) for pairs in checkpoints]
        rows.append([*named(members[0], "row", "group"), *shown])
    caption = "Loss on harmful pairs that were not read"
    return table(caption, ("Row", "Model"), map(str, checkpoints), rows)
