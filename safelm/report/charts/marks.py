"""What charts are drawn of: bars, parts, squares, curves and points."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

from markupsafe import Markup

from safelm.report.charts.svg import draw
from safelm.stats.rates import Rate

GUTTER = 84.0  # the column of names at the left


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
class Curve:
    """A line of (x, y) points; `rates` holds the rate of each, where they have intervals."""

    label: str
    style: str
    points: Sequence[tuple[float, float]]
    rates: Sequence[Rate] = ()


@dataclass(frozen=True)
class Point:
    """Two rates of one model or decoder."""

    label: str
    style: str
    x: Rate
    y: Rate

    @property
    def values(self) -> tuple[float, float]:
        """Both values, 0 where nothing was counted."""
        return self.x.value or 0.0, self.y.value or 0.0


def scatter(points: Sequence[Point], label: str, x_title: str, y_title: str) -> Markup:
    """Draw points between 0 and 100 percent, each with its mark, intervals and name.

    A line joins the frontier: less is better across, more is better upwards.
    """
    edge = sorted(point.values for point in frontier(points))
    return draw("scatter", points, edge, label, x_title, y_title)


def beats(point: Point, other: Point) -> bool:
    """Return whether one point is further left and no lower, or higher and no further right."""
    (x, y), (other_x, other_y) = point.values, other.values
    return (x, y) != (other_x, other_y) and x <= other_x and y >= other_y


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats."""
    beaten = {id(other) for point, other in product(points, points) if beats(point, other)}
    return [point for point in points if id(point) not in beaten]
