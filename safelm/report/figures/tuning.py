"""Figures of what undoes safety: benign finetuning, harmful pairs, and suffixes of requests."""

from collections.abc import Iterator
from dataclasses import replace

from safelm.report.charts.numbers import NONE, readable
from safelm.report.data import ReportData
from safelm.report.draw import grouped, measured_figure, pivot, places_of, rows_of
from safelm.report.layout import Figure, Row, table
from safelm.report.measured import Number

START = {"instruct": 0, "finetune": None}  # the checkpoints of whole stages
CONDITIONS = ["plain", "random", "optimised"]  # of suffixes


def finetuning(data: ReportData) -> Figure:
    """Draw attack success and benign compliance along benign finetuning."""
    numbers = data.safety(stage=list(START), checkpoint=...)
    between = [number for number in numbers if number.checkpoint is not None]
    cells = grouped(between, "group", "decoder")
    # The instruction-tuned model is the start of the line, the finetuned one its end.
    whole = [
        replace(number, checkpoint=START[number.stage])
        for number in numbers
        if number.checkpoint is None and (number.group, number.decoder) in cells
    ]
    return measured_figure(data, "relearning", [*between, *whole])


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


def suffix_attacks(data: ReportData) -> Figure:
    """Draw attack success of every row of `attacks`, by model, stage and decoder."""
    numbers = data.measured.select(row=list(data.declared.attacks), condition=CONDITIONS)
    targets = [number for number in numbers if not number.decoder]
    answers = [number for number in numbers if number.decoder]
    asr = [number for number in answers if number.metric == "asr"]
    tables = [pivot("suffixes", answers), pivot("suffix-targets", targets)]
    return measured_figure(data, "suffixes", asr, tables, settings=" ".join(_settings(data)))


def _settings(data: ReportData) -> Iterator[str]:
    """Describe each attacker's knowledge and the length of the search."""
    for name, row in data.declared.attacks.items():
        knows = "does not know the tag"
        if row.tag_weight:
            knows = "knows the tag, and lowers its probability on that answer too "
            knows += f"(weight {row.tag_weight:g})"
        search = f"{row.suffix_tokens} tokens, {row.steps} steps of {row.candidates} candidates"
        yield f"“{readable(name)}” {knows}; {search}."
