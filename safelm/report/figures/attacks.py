"""The figure of suffix attacks: no suffix, a random one, and an optimised one."""

from collections.abc import Iterator
from itertools import product

from safelm.report.charts.numbers import NONE, readable
from safelm.report.data import ReportData
from safelm.report.draw import bar_chart, grouped, named, pivot
from safelm.report.layout import STAGE_NAMES, STYLES, Figure, Panel, Table, Value, figure, table
from safelm.report.measured import Number

CONDITIONS = {"plain": "no suffix", "random": "random suffix", "optimised": "optimised suffix"}
# Metric: (its heading, its format).
TARGET = {
    "target_log_likelihood": ("Log-likelihood of a token", "{:.2f}"),
    "target_tag_probability": ("p(tag)", "{:.4f}"),
}
OPTIMISED = {"asr_strict": "Strict judge", "refused": "Declined", "neither": "Neither"}


def suffix_attacks(data: ReportData) -> Figure | None:
    """Draw attack success of every row of `attacks`, by model, stage and decoder."""
    rows = list(data.declared.attacks)
    numbers = data.measured.select(row=rows, condition=list(CONDITIONS))
    attacked = [number for number in numbers if number.metric == "asr"]
    if not attacked:
        return None
    styles = dict(zip(CONDITIONS, STYLES, strict=False))
    panels = []
    for (row, stage), members in grouped(attacked, "row", "stage").items():
        title = f"{readable(row)}: {STAGE_NAMES[stage].lower()}"
        what = f"attack success by suffix, {title}"
        chart = bar_chart(data, members, what, ("group", "decoder"), styles)
        panels.append(Panel(title, chart))
    columns = {("asr", name): f"Attack success, {words}" for name, words in CONDITIONS.items()}
    for metric, name in OPTIMISED.items():
        columns[metric, "optimised"] = f"{name}, optimised suffix"
    heads = ("row", "group", "stage", "decoder")
    answers = [number for number in numbers if number.decoder]
    caption = "Attack success with and without a suffix"
    return figure(
        "suffixes",
        panels,
        legend=list(zip(STYLES, CONDITIONS.values(), strict=False)),
        tables=[
            pivot(caption, answers, heads, columns, lambda n: (n.metric, n.condition)),
            _targets([number for number in numbers if number.metric in TARGET]),
        ],
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


def _targets(numbers: list[Number]) -> Table:
    """Build the table of the model's own probabilities of the target answer."""
    rows: list[list[Value]] = []
    for members in grouped(numbers, "row", "group", "stage").values():
        values = {(number.metric, number.condition): number.rate.value for number in members}
        row: list[Value] = [*named(members[0], "row", "group", "stage")]
        for metric, (_, form) in TARGET.items():
            for condition in CONDITIONS:
                value = values.get((metric, condition))
                row.append(NONE if value is None else form.format(value).replace("-", "−"))
        rows.append(row)
    headings = product((heading for heading, _ in TARGET.values()), CONDITIONS.values())
    columns = [f"{heading}, {name}" for heading, name in headings]
    caption = "The model's probabilities of the target answer"
    return table(caption, ("Row", "Model", "Stage"), columns, rows)
