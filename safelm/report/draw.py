"""From measured numbers to charts and tables: group by some columns, show by others."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from markupsafe import Markup

from safelm.report.charts.bars import Bar, Stack, bars, stacked
from safelm.report.charts.numbers import NONE, readable
from safelm.report.charts.xy import Curve, Series, lines, steps
from safelm.report.data import ReportData
from safelm.report.layout import (
    STAGE_NAMES,
    STYLES,
    Cell,
    Panel,
    Table,
    Value,
    area_cell,
    chart_label,
    rate_cell,
    table,
)
from safelm.report.measured import BEST_LAYER, Number

MAX_LINES = 5  # in one chart, a style for each
HEADS = {"group": "Model", "stage": "Stage", "decoder": "Decoder", "suite": "Suite", "row": "Row"}
CELL = ("group", "stage", "decoder")
METRICS = {
    "asr": "Attack success",
    "asr_strict": "Strict judge",
    "refused": "Declined",
    "neither": "Neither",
    "unjudged": "Unjudged",
    "complied": "Benign compliance",
    "over_refusal": "Over-refusal",
}
AREA = "area under the ROC curve"

Groups = dict[Any, list[Number]]


def grouped(numbers: Iterable[Number], *columns: str) -> Groups:
    """Group numbers by one column, or by a tuple of several, in their order."""
    groups: Groups = {}
    for number in numbers:
        key = tuple(getattr(number, column) for column in columns)
        groups.setdefault(key if len(key) > 1 else key[0], []).append(number)
    return groups


def named(number: Number, *columns: str) -> list[str]:
    """Write some columns of a number as people do."""
    return [_name(column, getattr(number, column)) for column in columns]


def _name(column: str, value: Any) -> str:
    if column == "stage":
        return STAGE_NAMES[value]
    if column == "metric":
        return METRICS.get(value, readable(value))
    if isinstance(value, float):
        return f"{value:g}"
    return value if column == "group" else readable(str(value))


def show(number: Number) -> Cell:
    """Show a number as a cell: an area with three decimals, a rate in percent."""
    if "auroc" in number.metric:
        return area_cell(number.rate)
    if number.metric == BEST_LAYER:
        return Cell(f"{number.rate.value:.3g}")
    return rate_cell(number.rate, number.paper)


def pivot(
    caption: str,
    numbers: Iterable[Number],
    index: Sequence[str],
    columns: Mapping[Any, str],
    on: Callable[[Number], Any] = lambda number: number.metric,
) -> Table:
    """Build a table: a row for each combination of `index`, a column for each of `columns`.

    Args:
        caption: of the table.
        numbers: to show; others than those of `columns` are left out.
        index: columns of the numbers, which become the heading of a row.
        columns: a value of `on`: the heading of its column.
        on: tells the column of a number.
    """
    rows: list[list[Value]] = []
    for members in grouped(numbers, *index).values():
        cells = {on(number): show(number) for number in members}
        if cells.keys() & columns.keys():
            values = [cells.get(column, Cell(NONE)) for column in columns]
            rows.append([*named(members[0], *index), *values])
    heads = [HEADS.get(column, "Rate") for column in index]
    return table(caption, heads, columns.values(), rows)


def metric_columns(*metrics: str) -> dict[str, str]:
    """Return the headings of some metrics."""
    return {metric: METRICS[metric] for metric in metrics}


def panels(
    numbers: Iterable[Number], column: str, draw: Callable[[list[Number], str], Markup]
) -> list[Panel]:
    """Draw a panel for each value of a column, such as for each stage."""
    drawn = []
    for members in grouped(numbers, column).values():
        (title,) = named(members[0], column)
        drawn.append(Panel(title, draw(members, title.lower())))
    return drawn


def bar_chart(
    data: ReportData,
    numbers: Iterable[Number],
    what: str,
    heading: Sequence[str] = ("group",),
    styles: Mapping[str, str] | None = None,
) -> Markup:
    """Draw a bar for each number, under headings; `styles` are of conditions, not of decoders."""
    rows = []
    for members in grouped(numbers, *heading).values():
        bar = [
            Bar(
                readable(number.condition or number.decoder),
                styles[number.condition or ""] if styles else data.style(number.decoder),
                number.rate,
                number.paper,
            )
            for number in members
        ]
        rows.append((", ".join(named(members[0], *heading)), bar))
    return bars(rows, chart_label("Bars", what))


def stack_rows(
    numbers: Iterable[Number], parts: Callable[[dict[str, int]], list[tuple[str, str, int]]]
) -> list[tuple[str, list[Stack]]]:
    """Build a stacked bar for each group and decoder from its counts by metric."""
    rows = []
    for group, members in grouped(numbers, "group").items():
        stacks = []
        for decoder, metrics in grouped(members, "decoder").items():
            counts = {number.metric: number.rate.count for number in metrics}
            stacks.append(Stack(readable(decoder), parts(counts)))
        rows.append((group, stacks))
    return rows


def stack_chart(rows: list[tuple[str, list[Stack]]], what: str) -> Markup:
    """Draw stacked bars under their headings."""
    return stacked(rows, chart_label("Stacked bars", what))


def step_panels(
    numbers: Iterable[Number],
    title: str,
    places: Mapping[Any, str],
    at: Callable[[Number], Any],
    *,
    across: str,
    what: str,
    series: str = "group",
    style: Callable[[str], str] | None = None,
) -> list[Panel]:
    """Draw rates at named places, a line for each value of `series`, five lines a chart.

    Args:
        numbers: to show.
        title: of the panels.
        places: a value of `at`: the name of its place.
        at: tells the place of a number.
        across: the title of the horizontal axis.
        what: completes "Lines: … ; the numbers are in the table below".
        series: a column of the numbers.
        style: of a line, by the value of `series`; else lines take the styles in turn.
    """
    rates_by_name = []
    for name, members in grouped(numbers, series).items():
        rates = {at(number): number.rate for number in members}
        rates_by_name.append((name, [rates.get(place) for place in places]))
    drawn = []
    for start in range(0, len(rates_by_name), MAX_LINES):
        chosen = [
            Series(readable(name), style(name) if style else default, rates)
            for (name, rates), default in zip(
                rates_by_name[start:], STYLES[:MAX_LINES], strict=False
            )
        ]
        names, label = list(places.values()), chart_label("Lines", what)
        drawn.append(Panel(title, steps(chosen, names, label, x_title=across, y_title="%")))
    return drawn


def area_panels(
    numbers: Iterable[Number], panel: str, series: str, across: str, what: str
) -> list[Panel]:
    """Draw areas under the ROC curve along a column, such as `layer`; five curves a chart."""
    drawn = []
    for members in grouped(numbers, panel).values():
        curves: list[Curve] = []
        for name, line in grouped(members, series).items():
            points = [(getattr(number, across), number.rate.value) for number in line]
            known = [(float(x), y) for x, y in points if x is not None and y is not None]
            style = STYLES[len(curves) % MAX_LINES]
            curves.append(Curve(name, style, sorted(known)))
        (title,) = named(members[0], panel)
        label = chart_label("Curves", f"{AREA} of {what}, {title.lower()}")
        across_title = "words read" if across == "words" else across
        for start in range(0, len(curves), MAX_LINES):
            few = curves[start : start + MAX_LINES]
            drawn.append(Panel(title, lines(few, label, x_title=across_title, y_title=AREA)))
    return drawn
