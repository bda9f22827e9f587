"""Figures of measured numbers: grouped and drawn as a row of figures.yaml says."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from typing import Any, TypeVar

from markupsafe import Markup

from safelm.report.charts.bars import Bar, Square, Stack, bars, stacked
from safelm.report.charts.numbers import NONE, rate_text, readable
from safelm.report.charts.svg import draw
from safelm.report.charts.xy import Curve, Series, lines, steps
from safelm.report.data import ReportData
from safelm.report.layout import (
    STAGE_NAMES,
    STYLES,
    Figure,
    Layout,
    Legend,
    Panel,
    Row,
    Table,
    chart_label,
    columns_of,
    figure,
    index_of,
    layout_of,
    table,
)
from safelm.report.measured import STAGES, Number

MAX_LINES = 5  # in one chart
METRICS = {
    "asr": "Attack success",
    "complied": "Benign compliance",
    "over_refusal": "Over-refusal",
}

Groups = dict[Any, list[Number]]
Line = TypeVar("Line", Curve, Series)


def grouped(numbers: Iterable[Number], *columns: str) -> Groups:
    """Group numbers by one column, or by a tuple of several, in their order."""
    groups: Groups = {}
    for number in numbers:
        key = tuple(getattr(number, column) for column in columns)
        # A single column groups by its value alone.
        groups.setdefault(key[0] if len(key) == 1 else key, []).append(number)
    return groups


def named(number: Number, *columns: str) -> dict[str, str]:
    """Write some columns of a number as people do."""
    return {column: _name(column, getattr(number, column)) for column in columns}


def _name(column: str, value: Any) -> str:
    if column == "stage":
        return STAGE_NAMES[value]
    if column == "metric":
        return METRICS.get(value, readable(value))
    if column == "bin_edge":
        return f"up to {value:g}"
    return value if column == "group" else readable(str(value))


def by_stage(numbers: Iterable[Number]) -> list[Number]:
    """Sort numbers by their stage, in the order of training."""
    return sorted(numbers, key=lambda number: STAGES.index(number.stage))


def pivot(
    id: str,
    numbers: Iterable[Number],
    columns: Mapping[Any, str] | None = None,
    on: str | Sequence[str] = "metric",
    **words: Any,
) -> Table:
    """Build a table: a row for each combination of its index, a column for each value of `on`.

    `on` is one column of the numbers, or several, whose values are joined with commas. Numbers
    outside of `columns` are left out.
    """
    columns = columns_of(id) if columns is None else columns
    rows: list[Row] = []
    for names, members in rows_of(id, numbers):
        cells = {_place(number, on): number for number in members}
        # A row of dashes alone says nothing.
        if cells.keys() & columns.keys():
            rows.append({**names, **cells})
    return table(id, rows, columns, **words)


def _place(number: Number, on: str | Sequence[str]) -> Any:
    """Return the value of a column, or of several with commas between: `asr, optimised`."""
    if isinstance(on, str):
        return getattr(number, on)
    return ", ".join(value for column in on if (value := getattr(number, column)))


def rows_of(id: str, numbers: Iterable[Number]) -> Iterator[tuple[dict[str, str], list[Number]]]:
    """Iterate over the rows of a table: (the names that begin it, its numbers)."""
    index = index_of(id)
    for members in grouped(numbers, *index).values():
        yield named(members[0], *index), members


def measured_figure(
    data: ReportData,
    id: str,
    numbers: Sequence[Number],
    tables: Iterable[Table] = (),
    *,
    text: str = "",
    places: Mapping[Any, str] | None = None,
    **words: Any,
) -> Figure:
    """Draw numbers as the row of figures.yaml says.

    `places` names the values of `at`, in the order in which lines run through them.
    """
    layout = layout_of(text or id, **words)
    panels = []
    for members in grouped(numbers, *layout.panel).values():
        heading = _heading(layout, members[0])
        label = chart_label(layout.chart, f"{layout.title}, {heading}")
        painter = Painter(data, layout, places or {}, label)
        panels += [Panel(heading, chart) for chart in CHARTS[layout.chart](painter, members)]
    legend: Legend = list(layout.parts.values())
    if not legend and layout.series == "decoder":
        legend = data.legend(grouped(numbers, "decoder"))
    return figure(id, panels, tables, legend=legend, text=text, **words)


def _heading(layout: Layout, number: Number) -> str:
    """Fill the heading of a panel: names after the first are in lower case."""
    names = named(number, *layout.panel)
    for column, name in names.items():
        if not layout.heading.startswith(f"{{{column}}}"):
            names[column] = name.lower()
    return layout.heading.format(**names)


def curve_panel(
    layout: Layout, curves: Sequence[Curve], title: str = "", are_shares: bool = False
) -> Panel:
    """Draw curves that are no pooled numbers, such as training losses."""
    label = f"Curves: {layout.title}."
    return Panel(title, lines(curves, label, layout.across, layout.upwards, are_shares))


def stack_panel(title: str, stacks: Sequence[Stack]) -> Panel:
    """Draw stacked bars that are no pooled numbers, such as the scores of corpora."""
    return Panel(title, stacked([("", stacks)], chart_label("stacked bars", title), 96.0))


@dataclass(frozen=True)
class Painter:
    """Draws the charts of a panel: one, or several where there are too many lines for one."""

    data: ReportData
    layout: Layout
    places: Mapping[Any, str]
    label: str

    def bars(self, numbers: Sequence[Number]) -> Iterator[Markup]:
        """Draw a bar for each number."""
        styles = self._styles(numbers)
        rows = []
        for heading, members in self._rows(numbers):
            row = []
            for number in members:
                (name,) = named(number, self.layout.label).values()
                style = styles[getattr(number, self.layout.series)]
                row.append(Bar(name, style, number.rate, number.paper))
            rows.append((heading, row))
        yield bars(rows, self.label, self.layout.gutter)

    def stacked_bars(self, numbers: Sequence[Number]) -> Iterator[Markup]:
        """Draw a bar for each decoder, divided by the counts of its metrics."""
        rows = []
        for heading, members in self._rows(numbers):
            stacks = []
            for decoder, metrics in grouped(members, "decoder").items():
                counts = {number.metric: number.rate.count for number in metrics}
                parts = self.layout.parts.items()
                found = [(*part, counts.get(metric, 0)) for metric, part in parts]
                stacks.append(Stack(readable(decoder), found))
            rows.append((heading, stacks))
        yield stacked(rows, self.label, self.layout.gutter)

    def lines(self, numbers: Sequence[Number]) -> Iterator[Markup]:
        """Draw rates at the places that were measured, a line for each series."""
        column, styles = self.layout.at, self._styles(numbers)
        # Checkpoints of another panel have no place in this one.
        known = grouped(numbers, column)
        places = {place: name for place, name in self.places.items() if place in known}
        titles = {"x_title": self.layout.across, "y_title": "%"}
        series = []
        for name, members in grouped(numbers, self.layout.series).items():
            rates = {getattr(number, column): number.rate for number in members}
            series.append(Series(readable(name), styles[name], [*map(rates.get, places)]))
        for few in _few(series):
            yield steps(few, [*places.values()], self.label, **titles)

    def curves(self, numbers: Sequence[Number]) -> Iterator[Markup]:
        """Draw values along a column of whole numbers, such as `layer`."""
        styles = self._styles(numbers)
        curves = []
        for name, members in grouped(numbers, self.layout.series).items():
            points = [(getattr(number, self.layout.at), number.rate.value) for number in members]
            # The mean of whole pages, for instance, stands at no number of words.
            known = [(float(x), y) for x, y in points if x is not None and y is not None]
            curves.append(Curve(name, styles[name], sorted(known)))
        for few in _few(curves):
            yield lines(few, self.label, x_title=self.layout.across, y_title=self.layout.upwards)

    def grid(self, numbers: Sequence[Number]) -> Iterator[Markup]:
        """Draw a square for each number, in whole percent."""
        columns = grouped(numbers, self.layout.label)
        missing = Square(NONE, None, "")
        rows = []
        for heading, members in self._rows(numbers):
            squares = {getattr(number, self.layout.label): _square(number) for number in members}
            rows.append((heading, [squares.get(column, missing) for column in columns]))
        names = [readable(column) for column in columns]
        yield draw("heat_map", rows, names, self.layout.gutter, "", self.label)

    def _rows(self, numbers: Sequence[Number]) -> Iterator[tuple[str, list[Number]]]:
        """Iterate over the rows with their headings."""
        for members in grouped(numbers, *self.layout.rows).values():
            yield ", ".join(named(members[0], *self.layout.rows).values()), members

    def _styles(self, numbers: Sequence[Number]) -> dict[Any, str]:
        """Return the style of each series: that of its decoder on the whole page, or in turn."""
        series = grouped(numbers, self.layout.series)
        if self.layout.series == "decoder":
            return {decoder: self.data.style(decoder) for decoder in series}
        return dict(zip(series, cycle(STYLES[:MAX_LINES]), strict=False))


def _few(lines: Sequence[Line]) -> Iterator[Sequence[Line]]:
    for start in range(0, len(lines), MAX_LINES):
        yield lines[start : start + MAX_LINES]


def _square(number: Number) -> Square:
    value = number.rate.value
    text = NONE if value is None else f"{value * 100:.0f}"
    return Square(text, value, rate_text(number.rate))


CHARTS = {
    "bars": Painter.bars,
    "stacked bars": Painter.stacked_bars,
    "lines": Painter.lines,
    "curves": Painter.curves,
    "grid": Painter.grid,
}
