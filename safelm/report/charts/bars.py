"""Charts made of rows: bars with intervals, stacked bars, pairs of dots, and heat maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeVar

from markupsafe import Markup

from safelm.report.charts.svg import WIDTH, draw, nice_ticks
from safelm.stats.rates import Rate

VALUES = 46.0  # the column of numbers at the right
GUTTER = 84.0  # the column of names at the left
PERCENTS = ((0.0, "0"), (0.25, ""), (0.5, "50"), (0.75, ""), (1.0, "100 %"))

Row = TypeVar("Row")
Rows = Sequence[tuple[str, Sequence[Row]]]  # heading: the rows below it


@dataclass(frozen=True)
class Bar:
    """One bar: a rate with its interval, and the paper's value as a share."""

    label: str
    style: str
    rate: Rate
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


@dataclass(frozen=True)
class Square:
    """A cell: its text, the strength of its colour (0 to 1, or None for no value) and its hint."""

    text: str
    strength: float | None
    hint: str


@dataclass(frozen=True)
class Scale:
    """The horizontal axis: from `left` at 0 to `right` at `highest`."""

    left: float
    right: float
    ticks: Sequence[tuple[float, str]] = PERCENTS
    highest: float = 1.0

    def x(self, value: float) -> float:
        """Return the position of a value."""
        return self.left + value / self.highest * (self.right - self.left)


def bars(rows: Rows[Bar], label: str, gutter: float = GUTTER) -> Markup:
    """Draw bars from 0 to 100 percent with intervals, dots of seeds and the paper's values."""
    return draw("bars", rows, Scale(gutter, WIDTH - VALUES), label)


def stacked(rows: Rows[Stack], label: str, gutter: float = GUTTER) -> Markup:
    """Draw bars of equal length, divided by share; a part with enough width shows its percent."""
    return draw("stacked", rows, Scale(gutter, WIDTH - 16), label)


def pairs(rows: Sequence[Pair], label: str, gutter: float = 144.0) -> Markup:
    """Draw a hollow dot before, a full dot after, and the line between them."""
    values = [row.before for row in rows] + [row.after for row in rows]
    ticks = nice_ticks(max((value for value in values if value is not None), default=0.0))
    named = [(tick, f"{tick:,.6g}") for tick in ticks]
    return draw("pairs", [("", rows)], Scale(gutter, WIDTH - 14, named, ticks[-1]), label)
