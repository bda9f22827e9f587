"""Horizontal charts: bars with intervals, stacked bars, and values before and after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from safelm.report.charts import svg
from safelm.report.charts.numbers import percent, rate_text
from safelm.stats.rates import Rate

PITCH, THICKNESS, HEADING = 19.0, 12.0, 20.0  # from bar to bar, of a bar, of a heading
VALUES = 46.0  # the column of numbers at the right
SIDE = 16.0  # the margin at the right of charts without such a column
PERCENTS = [(0.0, "0"), (0.25, ""), (0.5, "50"), (0.75, ""), (1.0, "100 %")]


@dataclass(frozen=True)
class Bar:
    """One bar: a rate with its interval, and the paper's value as a share."""

    label: str
    style: str
    rate: Rate | None
    paper: float | None = None


@dataclass(frozen=True)
class Stack:
    """One bar of several parts, which together are the whole."""

    label: str
    parts: Sequence[tuple[str, str, int]]  # style, name, count


@dataclass(frozen=True)
class Pair:
    """A value before and after."""

    label: str
    before: float | None
    after: float | None


Row = TypeVar("Row", Bar, Stack)
Rows = Sequence[tuple[str, Sequence[Bar]]]  # (heading or "", its bars)
Stacks = Sequence[tuple[str, Sequence[Stack]]]


@dataclass(frozen=True)
class Scale:
    """The horizontal axis: from `left` at 0 to `right` at `highest`."""

    left: float
    right: float
    highest: float = 1.0

    def x(self, value: float) -> float:
        """Return the position of a value."""
        return self.left + value / self.highest * (self.right - self.left)


def bars(groups: Rows, label: str, *, gutter: float = 84.0) -> Markup:
    """Draw bars from 0 to 100 percent with intervals, dots of seeds and the paper's values."""
    return _rows(groups, label, Scale(gutter, svg.WIDTH - VALUES), _bar)


def stacked(groups: Stacks, label: str, *, gutter: float = 84.0) -> Markup:
    """Draw bars of equal length, divided by share; a part with enough width shows its percent."""
    return _rows(groups, label, Scale(gutter, svg.WIDTH - SIDE), _stack)


def _rows(
    groups: Sequence[tuple[str, Sequence[Row]]],
    label: str,
    scale: Scale,
    draw: Callable[[Row, Scale, float], Markup],
) -> Markup:
    drawn, y = [], 4.0
    for heading, rows in groups:
        if heading:
            title = svg.shortened(heading, svg.WIDTH, svg.MEDIUM)
            drawn.append(svg.text(0.0, y + 13, title, class_="heading"))
            y += HEADING
        for row in rows:
            drawn.append(draw(row, scale, y + PITCH / 2))
            y += PITCH
        y += 6 if heading else 0
    axis = svg.axis_below(scale.x, 4.0, y, PERCENTS)
    return svg.chart(svg.WIDTH, y + 20, label, axis, *drawn)


def _label(name: str, scale: Scale, middle: float) -> Markup:
    return svg.text(0.0, middle + 4, svg.shortened(name, scale.left - 4), class_="label")


def _missing(scale: Scale, middle: float) -> Markup:
    return svg.text(scale.left + 4, middle + 4, "not measured", class_="muted")


def _bar(row: Bar, scale: Scale, middle: float) -> Markup:
    drawn = [_label(row.label, scale, middle)]
    rate = row.rate
    if rate is None or rate.value is None or rate.low is None or rate.high is None:
        drawn.append(_missing(scale, middle))
    else:
        paper = "" if row.paper is None else f"; paper {percent(row.paper)}"
        hint = f"{row.label}: {rate_text(rate)}{paper}"
        width, top = scale.x(rate.value) - scale.left, middle - THICKNESS / 2
        drawn.append(svg.block(scale.left, top, width, THICKNESS, row.style, hint))
        drawn.append(_whisker(scale.x(rate.low), scale.x(rate.high), middle))
        drawn += svg.seed_dots([(scale.x(seed), middle) for seed in rate.seeds])
        value = percent(rate.value)
        drawn.append(svg.text(svg.WIDTH, middle + 4, value, class_="value", anchor="end"))
    if row.paper is not None:
        drawn.append(svg.diamond(scale.x(row.paper), middle, f"paper: {percent(row.paper)}"))
    return Markup("").join(drawn)


def _whisker(low: float, high: float, y: float) -> Markup:
    ends = [svg.line(x, y - 3.5, x, y + 3.5, "whisker") for x in (low, high)]
    return svg.line(low, y, high, y, "whisker") + ends[0] + ends[1]


def _stack(row: Stack, scale: Scale, middle: float) -> Markup:
    drawn = [_label(row.label, scale, middle)]
    total = sum(count for _, _, count in row.parts)
    if not total:
        drawn.append(_missing(scale, middle))
    before = 0
    for style, name, count in row.parts:
        if count:
            left, right = scale.x(before / total), scale.x((before + count) / total)
            hint = f"{row.label}, {name}: {percent(count / total)} ({count:,} of {total:,})"
            drawn.append(svg.block(left, middle - 7, right - left - 0.8, 14.0, style, hint))
            drawn.append(_inside(f"{count / total * 100:.0f}", left, right, middle))
        before += count
    return Markup("").join(drawn)


def _inside(words: str, left: float, right: float, middle: float) -> Markup:
    """Draw a number on a plate inside a part, where there is enough width."""
    width, centre = svg.text_width(words), (left + right) / 2
    if right - left <= width + 8:
        return Markup("")
    plate = svg.element(
        "rect",
        x=centre - width / 2 - 2,
        y=middle - 5.5,
        width=width + 4,
        height=11.0,
        rx=2,
        class_="plate",
    )
    return plate + svg.text(centre, middle + 4, words, class_="inside", anchor="middle")


def pairs(rows: Sequence[Pair], label: str, *, gutter: float = 144.0) -> Markup:
    """Draw a hollow dot before, a full dot after, and the line between them."""
    values = [value for row in rows for value in (row.before, row.after) if value is not None]
    ticks = svg.nice_ticks(max(values, default=0.0))
    scale = Scale(gutter, svg.WIDTH - 14, ticks[-1])
    drawn = [_pair(row, scale, 4.0 + PITCH * index + PITCH / 2) for index, row in enumerate(rows)]
    bottom = 4.0 + PITCH * len(rows)
    axis = svg.axis_below(scale.x, 4.0, bottom, [(tick, f"{tick:,.6g}") for tick in ticks])
    return svg.chart(svg.WIDTH, bottom + 20, label, axis, *drawn)


def _pair(row: Pair, scale: Scale, middle: float) -> Markup:
    drawn = [_label(row.label, scale, middle)]
    if row.before is not None and row.after is not None:
        drawn.append(svg.line(scale.x(row.before), middle, scale.x(row.after), middle, "way"))
    for style, value in (("before", row.before), ("after", row.after)):
        if value is not None:
            hint = f"{row.label}, {style}: {value:,.2f}"
            drawn.append(svg.dot(scale.x(value), middle, style, hint))
    return Markup("").join(drawn)
