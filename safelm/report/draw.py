"""Figures of measured numbers: grouped and drawn as a row of figures.yaml says."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import cycle
from typing import Any

from markupsafe import Markup

from safelm.report.charts.numbers import NONE, rate_text, readable
from safelm.report.charts.svg import Curve, draw
from safelm.report.data import ReportData
from safelm.report.layout import (
    STYLES,
    Figure,
    Layout,
    Legend,
    Panel,
    Row,
    Table,
    chart_label,
    figure,
    layout_of,
    name_of,
    table,
    table_layout,
)
from safelm.report.measured import STAGES, Number

MAX_LINES = 5  # in one chart

Groups = dict[Any, list[Number]]


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
    return {column: name_of(column, getattr(number, column)) for column in columns}


def by_stage(numbers: Iterable[Number]) -> list[Number]:
    """Sort numbers by their stage, in the order of training."""
    return sorted(numbers, key=lambda number: STAGES.index(number.stage))


def places_of(numbers: Sequence[Number], column: str) -> dict[Any, str]:
    """Name the values of a column, in the order of training or of numbers, and null last."""
    ordered = by_stage(numbers) if column == "stage" else numbers
    values = grouped(ordered, column)
    known = [value for value in values if value is not None]
    # Names keep the order of params.yaml.
    if known and not isinstance(known[0], str):
        known.sort()
    # Nothing is after null: the whole run, or the whole page.
    known += [None] * (len(values) - len(known))
    return {value: name_of(column, value) for value in known}


def pivot(
    id: str, numbers: Sequence[Number], columns: Mapping[Any, str] | None = None, **words: Any
) -> Table:
    """Build a table: a row for each combination of its index, a column for each value of `by`.

    `by` of tables.yaml is one column of the numbers, or several, whose values are joined with
    commas. Columns that neither `columns` nor tables.yaml names are all the values of `by`; numbers
    outside of the columns are left out.
    """
    layout = table_layout(id)
    by = layout.get("by", "metric")
    columns = columns or layout.get("columns") or places_of(numbers, by)
    rows: list[Row] = []
    for names, members in rows_of(id, numbers):
        cells = {_place(number, by): number for number in members}
        # A row of dashes alone says nothing.
        if cells.keys() & columns.keys():
            rows.append({**names, **cells})
    return table(id, rows, columns, **words)


def _place(number: Number, by: str | Sequence[str]) -> Any:
    """Return the value of a column, or of several with commas between: `asr, optimised`."""
    if isinstance(by, str):
        return getattr(number, by)
    return ", ".join(value for column in by if (value := getattr(number, column)))


def rows_of(id: str, numbers: Iterable[Number]) -> Iterator[tuple[dict[str, str], list[Number]]]:
    """Iterate over the rows of a table: (the names that begin it, its numbers)."""
    index = table_layout(id)["index"]
    for members in grouped(numbers, *index).values():
        yield named(members[0], *index), members


def measured_figure(
    data: ReportData,
    name: str,
    numbers: Sequence[Number],
    tables: Iterable[Table] | None = None,
    *,
    places: Mapping[Any, str] | None = None,
    id: str = "",
    **words: Any,
) -> Figure:
    """Draw numbers as a row of figures.yaml says, above the table of its name unless others came.

    `places` names the values of `at`, in the order in which lines run through them, and the columns
    of that table.
    """
    layout = layout_of(name, **words)
    if tables is None:
        tables = [pivot(name, numbers, places, **words)]
    if layout.chart == "lines" and places is None:
        places = places_of(numbers, layout.at)
    panels = []
    for members in grouped(numbers, *layout.panel).values():
        heading = _heading(layout, members[0])
        label = chart_label(layout.chart, f"{layout.title}, {heading}")
        painter = Painter(data, layout, places or {}, label, members)
        panels += [Panel(heading, chart) for chart in CHARTS[layout.chart](painter)]
    legend: Legend = list(layout.parts.values())
    if not legend and layout.series == "decoder":
        legend = data.legend(grouped(numbers, "decoder"))
    return figure(name, panels, tables, legend=legend, id=id, **words)


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
    chart = draw("lines", curves, label, layout.across, layout.upwards, are_shares)
    return Panel(title, chart)


def stack_panel(title: str, rows: Mapping[str, Sequence[int]], legend: Legend) -> Panel:
    """Draw counts that are no pooled numbers, such as the scores of corpora, as stacked bars."""
    stacks = [(name, (legend, counts)) for name, counts in rows.items()]
    label = chart_label("stacked bars", title)
    return Panel(title, draw("stacked", [("", stacks)], label, 96.0))


@dataclass(frozen=True)
class Painter:
    """Draws the charts of a panel: one, or several where there are too many lines for one."""

    data: ReportData
    layout: Layout
    places: Mapping[Any, str]
    label: str
    numbers: Sequence[Number]

    def bars(self) -> Iterator[Markup]:
        """Draw a bar for each number."""
        rows = []
        for heading, members in self._rows():
            bars = []
            for number in members:
                (name,) = named(number, self.layout.label).values()
                style = self.styles[getattr(number, self.layout.series)]
                bars.append((name, (style, number)))
            rows.append((heading, bars))
        yield draw("bars", rows, self.label, self.layout.gutter)

    def stacked_bars(self) -> Iterator[Markup]:
        """Draw a bar for each decoder, divided by the counts of its metrics."""
        parts = self.layout.parts
        rows = []
        for heading, members in self._rows():
            stacks = []
            for decoder, metrics in grouped(members, "decoder").items():
                counts = {number.metric: number.rate.count for number in metrics}
                found = [counts.get(metric, 0) for metric in parts]
                stacks.append((readable(decoder), ([*parts.values()], found)))
            rows.append((heading, stacks))
        yield draw("stacked", rows, self.label, self.layout.gutter)

    def grid(self) -> Iterator[Markup]:
        """Draw a square for each number, in whole percent, the stronger the higher."""
        columns = grouped(self.numbers, self.layout.label)
        rows = []
        for heading, members in self._rows():
            squares = []
            rates = {getattr(number, self.layout.label): number.rate for number in members}
            for rate in map(rates.get, columns):
                value = rate.value if rate else None
                text = NONE if value is None else f"{value * 100:.0f}"
                squares.append((text, value, rate_text(rate) if rate else ""))
            rows.append((heading, squares))
        names = [readable(column) for column in columns]
        yield draw("heat_map", rows, names, self.layout.gutter, "", self.label)

    def lines(self) -> Iterator[Markup]:
        """Draw rates at the places that were measured, a line for each series."""
        # Checkpoints of another panel have no place in this one.
        known = grouped(self.numbers, self.layout.at)
        places = [place for place in self.places if place in known]
        names = [self.places[place] for place in places]
        for curves in self._curves(places.index, readable):
            yield draw("steps", curves, names, self.label, self.layout.across, "%")

    def curves(self) -> Iterator[Markup]:
        """Draw values along a column of whole numbers, such as `layer`."""
        # They come from areas under a curve, whose intervals are in the table.
        for curves in self._curves(float, str):
            bare = [replace(curve, rates=()) for curve in curves]
            yield draw("lines", bare, self.label, self.layout.across, self.layout.upwards, False)

    def _rows(self) -> Iterator[tuple[str, list[Number]]]:
        """Iterate over the headings of the chart, with the numbers below each."""
        for members in grouped(self.numbers, *self.layout.rows).values():
            yield ", ".join(named(members[0], *self.layout.rows).values()), members

    def _curves(
        self, x: Callable[[Any], float], label: Callable[[str], str]
    ) -> Iterator[list[Curve]]:
        """Iterate over the curves of each chart, one for each series."""
        curves = []
        for name, members in grouped(self.numbers, self.layout.series).items():
            known = {}
            for number in members:
                at, rate = getattr(number, self.layout.at), number.rate
                # The mean of whole pages, for instance, stands at no number of words.
                if rate.value is not None and (at is not None or at in self.places):
                    known[x(at)] = rate
            rates = dict(sorted(known.items()))
            points = [(at, rate.value or 0.0) for at, rate in rates.items()]
            curves.append(Curve(label(name), self.styles[name], points, [*rates.values()]))
        for start in range(0, len(curves), MAX_LINES):
            yield curves[start : start + MAX_LINES]

    @property
    def styles(self) -> dict[Any, str]:
        """The style of each series: that of its decoder on the whole page, or in turn."""
        if self.layout.series == "decoder":
            return self.data.styles
        series = grouped(self.numbers, self.layout.series)
        return dict(zip(series, cycle(STYLES[:MAX_LINES]), strict=False))


CHARTS = {
    "bars": Painter.bars,
    "stacked bars": Painter.stacked_bars,
    "lines": Painter.lines,
    "curves": Painter.curves,
    "grid": Painter.grid,
}
