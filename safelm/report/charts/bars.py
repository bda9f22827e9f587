"""Horizontal charts: bars with intervals, stacked bars, and pairs of values before and after."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from safelm.report.charts.numbers import percent, rate_text
from safelm.report.charts.svg import (
    MEDIUM,
    SMALL,
    WIDTH,
    axis_below,
    block,
    chart,
    diamond,
    dot,
    element,
    length,
    line,
    nice_ticks,
    shortened,
    words,
)
from safelm.stats.rates import Rate

PITCH, THICK, HEAD = 19.0, 12.0, 20.0  # from bar to bar, of a bar, of a heading
VALUES = 46.0  # the column of numbers at the right
PERCENTS = [(0.0, "0"), (0.25, ""), (0.5, "50"), (0.75, ""), (1.0, "100 %")]


@dataclass(frozen=True)
class Bar:
    """One bar: a rate with its interval, and what the paper found, as a share."""

    label: str
    style: str
    rate: Rate | None
    paper: float | None = None


@dataclass(frozen=True)
class Stack:
    """One bar of several parts: counts by style, which together are the whole."""

    label: str
    parts: tuple[tuple[str, str, int], ...]  # style, name, count


Rows = Sequence[tuple[str, Sequence[Bar]]]  # (heading or "", its bars)


def bars(groups: Rows, label: str, *, gutter: float = 84.0) -> Markup:
    """Bars from 0 to 100 percent with their intervals, a dot for each seed and a diamond for the
    paper's value.
    """
    right = WIDTH - VALUES
    drawn, y = [], 4.0

    def x(share: float) -> float:
        return gutter + share * (right - gutter)

    for heading, rows in groups:
        if heading:
            drawn.append(words(0.0, y + 13, shortened(heading, WIDTH, MEDIUM), class_="heading"))
            y += HEAD
        for row in rows:
            drawn.append(_bar(row, x, y, gutter))
            y += PITCH
        y += 6 if heading else 0
    axis = axis_below(x, 4.0, y, PERCENTS)
    return chart(WIDTH, y + 20, label, axis, *drawn)


def _bar(row: Bar, x: Callable[[float], float], y: float, gutter: float) -> Markup:
    middle = y + PITCH / 2
    drawn = [words(0.0, middle + 4, shortened(row.label, gutter - 4), class_="label")]
    found = row.rate
    paper = f"; paper {percent(row.paper)}" if row.paper is not None else ""
    if found is None or found.value is None or found.low is None or found.high is None:
        drawn.append(words(x(0.0) + 4, middle + 4, "not measured", class_="muted"))
    else:
        hint = f"{row.label}: {rate_text(found)}{paper}"
        drawn.append(
            block(x(0.0), middle - THICK / 2, x(found.value) - x(0.0), THICK, row.style, hint)
        )
        drawn.append(whisker(x(found.low), x(found.high), middle))
        drawn += [
            element("circle", cx=x(seed), cy=middle, r=2.2, class_="seed") for seed in found.seeds
        ]
        drawn.append(words(WIDTH, middle + 4, percent(found.value), class_="value", anchor="end"))
    if row.paper is not None:
        drawn.append(diamond(x(row.paper), middle, f"paper: {percent(row.paper)}"))
    return Markup("").join(drawn)


def whisker(low: float, high: float, y: float) -> Markup:
    """An interval, lying."""
    ends = [line(at, y - 3.5, at, y + 3.5, "whisker") for at in (low, high)]
    return line(low, y, high, y, "whisker") + ends[0] + ends[1]


def stacked(
    groups: Sequence[tuple[str, Sequence[Stack]]], label: str, *, gutter: float = 84.0
) -> Markup:
    """Bars of equal length, divided by share; a part that has room for it shows its percent."""
    drawn, y = [], 4.0
    for heading, rows in groups:
        if heading:
            drawn.append(words(0.0, y + 13, shortened(heading, WIDTH, MEDIUM), class_="heading"))
            y += HEAD
        for row in rows:
            drawn.append(_stack(row, y, gutter))
            y += PITCH
        y += 6 if heading else 0

    def x(share: float) -> float:
        return gutter + share * (WIDTH - 16 - gutter)

    return chart(WIDTH, y + 20, label, axis_below(x, 4.0, y, PERCENTS), *drawn)


def _stack(row: Stack, y: float, gutter: float) -> Markup:
    middle, width, at = y + PITCH / 2, WIDTH - 16 - gutter, gutter
    drawn = [words(0.0, middle + 4, shortened(row.label, gutter - 4), class_="label")]
    of = sum(count for _, _, count in row.parts)
    if not of:
        drawn.append(words(gutter + 4, middle + 4, "not measured", class_="muted"))
    for style, name, count in row.parts:
        share = count / of if of else 0.0
        if share:
            hint = f"{row.label}, {name}: {percent(share)} ({count:,} of {of:,})"
            drawn.append(block(at, middle - 7, share * width - 0.8, 14.0, style, hint))
            text = f"{share * 100:.0f}"
            if share * width > length(text) + 8:
                place = at + share * width / 2
                drawn.append(
                    element(
                        "rect",
                        x=place - length(text) / 2 - 2,
                        y=middle - 5.5,
                        width=length(text) + 4,
                        height=11.0,
                        rx=2,
                        class_="plate",
                    )
                )
                drawn.append(words(place, middle + 4, text, class_="inside", anchor="middle"))
        at += share * width
    return Markup("").join(drawn)


@dataclass(frozen=True)
class Pair:
    """A value before and after."""

    label: str
    before: float | None
    after: float | None


def pairs(rows: Sequence[Pair], label: str, *, gutter: float = 144.0) -> Markup:
    """A hollow dot before, a full dot after, and the way between them."""
    highest = max(
        (value for row in rows for value in (row.before, row.after) if value is not None),
        default=0.0,
    )
    ticks = nice_ticks(highest)
    right, y = WIDTH - 14, 4.0

    def x(value: float) -> float:
        return gutter + value / ticks[-1] * (right - gutter)

    drawn = []
    for row in rows:
        middle = y + PITCH / 2
        drawn.append(
            words(0.0, middle + 4, shortened(row.label, gutter - 4, SMALL), class_="label")
        )
        if row.before is not None and row.after is not None:
            drawn.append(line(x(row.before), middle, x(row.after), middle, "way"))
        if row.before is not None:
            drawn.append(
                dot(x(row.before), middle, "before", f"{row.label}, before: {row.before:,.2f}")
            )
        if row.after is not None:
            drawn.append(
                dot(x(row.after), middle, "after", f"{row.label}, after: {row.after:,.2f}")
            )
        y += PITCH
    axis = axis_below(x, 4.0, y, [(value, f"{value:,.6g}") for value in ticks])
    return chart(WIDTH, y + 20, label, axis, *drawn)
