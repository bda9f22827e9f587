"""The figure of suffix attacks: no suffix, a random one, and an optimised one."""

from collections.abc import Iterator, Sequence
from typing import Any

from safelm.report.charts.numbers import fixed, readable
from safelm.report.data import ReportData
from safelm.report.draw import measured_figure, pivot, rows_of
from safelm.report.layout import STYLES, Figure, Row, Table, table
from safelm.report.measured import Number

CONDITIONS = {"plain": "no suffix", "random": "random suffix", "optimised": "optimised suffix"}
# Metric: its heading, and its number of decimals.
TARGET = {"target_log_likelihood": ("Log-likelihood of a token", 2)}
TARGET |= {"target_tag_probability": ("p(tag)", 4)}
OPTIMISED = {"asr_strict": "Strict judge", "refused": "Declined", "neither": "Neither"}


def suffix_attacks(data: ReportData) -> Figure:
    """Draw attack success of every row of `attacks`, by model, stage and decoder."""
    rows = list(data.declared.attacks)
    numbers = data.measured.select(row=rows, condition=list(CONDITIONS))
    answers = [number for number in numbers if number.decoder]
    columns = {("asr", name): f"Attack success, {words}" for name, words in CONDITIONS.items()}
    for metric, name in OPTIMISED.items():
        columns[metric, "optimised"] = f"{name}, optimised suffix"
    return measured_figure(
        data,
        "suffixes",
        [number for number in answers if number.metric == "asr"],
        [pivot("suffixes", answers, columns, on=("metric", "condition")), _targets(numbers)],
        legend=list(zip(STYLES, CONDITIONS.values(), strict=False)),
        settings=" ".join(_settings(data)),
    )


def _settings(data: ReportData) -> Iterator[str]:
    """Describe each attacker's knowledge and the length of the search."""
    for name, row in data.declared.attacks.items():
        knows = "does not know the tag"
        if row.tag_weight:
            knows = "knows the tag, and lowers its probability on that answer too "
            knows += f"(weight {row.tag_weight:g})"
        search = f"{row.suffix_tokens} tokens, {row.steps} steps of {row.candidates} candidates"
        yield f"“{readable(name)}” {knows}; {search}."


def _targets(numbers: Sequence[Number]) -> Table:
    """Build the table of the model's own probabilities of the target answer."""
    columns: dict[Any, str] = {}
    for metric, (heading, _) in TARGET.items():
        columns |= {(metric, name): f"{heading}, {words}" for name, words in CONDITIONS.items()}
    targets = [number for number in numbers if number.metric in TARGET]
    rows: list[Row] = []
    for names, members in rows_of("suffix-targets", targets):
        row: dict[Any, str] = {**names}
        for number in members:
            value = fixed(number.rate.value, TARGET[number.metric][1])
            row[number.metric, number.condition] = value.replace("-", "−")
        rows.append(row)
    return table("suffix-targets", rows, columns)
