"""Figures of what undoes safety: benign finetuning, harmful pairs, and suffixes of requests."""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from safelm.report.charts.numbers import NONE, readable
from safelm.report.data import ReportData
from safelm.report.draw import grouped, measured_figure, pivot, rows_of
from safelm.report.layout import Figure, Row, Table, table
from safelm.report.measured import Number

END = "all"
START = {"instruct": 0, "finetune": None}  # the checkpoints of whole stages
CONDITIONS = ["plain", "random", "optimised"]  # of suffixes
SAFETY = {"asr": "harmful", "complied": "benign"}  # metric: suite


def _safety(data: ReportData, **columns: object) -> list[Number]:
    """Select attack success, then benign compliance, at all checkpoints."""
    numbers = []
    for metric, suite in SAFETY.items():
        numbers += data.measured.select(metric=metric, suite=suite, checkpoint=..., **columns)
    return numbers


def finetuning(data: ReportData) -> Figure:
    """Draw attack success and benign compliance along benign finetuning."""
    between = [n for n in _safety(data, stage="finetune") if n.checkpoint is not None]
    cells = grouped(between, "group", "decoder")
    # The instruction-tuned model is the start of the line, the finetuned one its end.
    whole = [
        replace(number, checkpoint=START[number.stage])
        for number in _safety(data, stage=list(START))
        if number.checkpoint is None and (number.group, number.decoder) in cells
    ]
    numbers = [*between, *whole]
    checkpoints = {number.checkpoint or 0 for number in between}
    places: dict[int | None, str] = {pairs: str(pairs) for pairs in sorted({0, *checkpoints})}
    places[None] = END
    tables = [pivot("relearning", numbers, places, on="checkpoint")]
    return measured_figure(data, "relearning", numbers, tables, places=places, end=END)


def harmful_tuning(data: ReportData) -> Figure:
    """Draw the rows of `relearn`: tuning on harmful pairs, and on benign ones as the control."""
    declared = data.declared.relearn
    rates = [n for n in _safety(data, row=list(declared)) if n.rate.value is not None]
    losses = data.measured.select(metric="held_out_loss", row=list(declared), checkpoint=...)
    checkpoints = sorted({number.checkpoint or 0 for number in (*rates, *losses)})
    places = {pairs: str(pairs) for pairs in checkpoints}
    stages: list[str] = [row.stage for row in declared.values()]
    orders: dict[str, list[str]] = {
        "stage": stages,
        "decoder": [*data.declared.decoders],
        "metric": [*SAFETY],
        "row": [*declared],
    }

    # Rows of one stage stand beside each other, for comparison with their control.
    def position(number: Number) -> list[int]:
        return [order.index(getattr(number, column)) for column, order in orders.items()]

    tables = [
        _pairs_table(rates, places),
        pivot("tuned-on-losses", losses, places, on="checkpoint"),
    ]
    return measured_figure(data, "tuned-on", sorted(rates, key=position), tables, places=places)


def _pairs_table(numbers: Sequence[Number], places: dict[int, str]) -> Table:
    rows: list[Row] = []
    for names, members in rows_of("tuned-on", numbers):
        rises = _first_rise(members) if members[0].metric == "asr" else ""
        rates = {number.checkpoint: number for number in members}
        rows.append({**names, "rises": rises, **rates})
    return table("tuned-on", rows, {"rises": "Rises after", **places})


def _first_rise(numbers: Sequence[Number]) -> str:
    """Return the first checkpoint whose whole interval lies above that of checkpoint 0."""
    rates = {number.checkpoint or 0: number.rate for number in numbers}
    start = rates.get(0)
    for checkpoint, rate in sorted(rates.items()):
        if start and (rate.low or 0.0) > (start.high or 0.0):
            return str(checkpoint)
    return NONE


def suffix_attacks(data: ReportData) -> Figure:
    """Draw attack success of every row of `attacks`, by model, stage and decoder."""
    numbers = data.measured.select(row=list(data.declared.attacks), condition=CONDITIONS)
    on = ("metric", "condition")
    targets = [number for number in numbers if not number.decoder]
    answers = [number for number in numbers if number.decoder]
    tables = [pivot("suffixes", answers, on=on), pivot("suffix-targets", targets, on=on)]
    asr = [number for number in answers if number.metric == "asr"]
    settings = " ".join(_settings(data))
    return measured_figure(data, "suffixes", asr, tables, settings=settings)


def _settings(data: ReportData) -> Iterator[str]:
    """Describe each attacker's knowledge and the length of the search."""
    for name, row in data.declared.attacks.items():
        knows = "does not know the tag"
        if row.tag_weight:
            knows = "knows the tag, and lowers its probability on that answer too "
            knows += f"(weight {row.tag_weight:g})"
        search = f"{row.suffix_tokens} tokens, {row.steps} steps of {row.candidates} candidates"
        yield f"“{readable(name)}” {knows}; {search}."
