"""Charts on two axes: curves, rates in steps, and points with intervals in both directions."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, product

from markupsafe import Markup

from safelm.report.charts.numbers import short_number
from safelm.report.charts.svg import WIDTH, draw, nice_ticks
from safelm.stats.rates import Rate

LEFT, TOP, HEIGHT = 46.0, 10.0, 250.0
NAMES = 96.0  # the column of names beside the curves
LINE = 13.0  # the height of a name
SHIFT = 5.0  # between series at one step
PERCENTS = [(part / 4, f"{part * 25}") for part in range(5)]

Ticks = Sequence[tuple[float, str]]
Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Curve:
    """A line of (x, y) points; `rates` holds the rate of each, where they have intervals."""

    label: str
    style: str
    points: Points
    rates: Sequence[Rate] = ()


@dataclass(frozen=True)
class Series:
    """A rate at each of several steps; None where it was not measured."""

    label: str
    style: str
    rates: Sequence[Rate | None]


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


@dataclass(frozen=True)
class Plane:
    """A plot from 0 to `far` across and from 0 to `high` upwards."""

    x_ticks: Ticks
    y_ticks: Ticks
    x_title: str
    y_title: str
    far: float = 1.0
    high: float = 1.0
    right: float = WIDTH - NAMES
    bottom: float = TOP + HEIGHT - 30
    left: float = LEFT
    top: float = TOP

    def x(self, value: float) -> float:
        """Return the horizontal position of a value."""
        return self.left + value / self.far * (self.right - self.left)

    def y(self, value: float) -> float:
        """Return the vertical position of a value."""
        return self.bottom - value / self.high * (self.bottom - self.top)

    def at(self, points: Points) -> list[tuple[float, float]]:
        """Return the positions of points."""
        return [(self.x(x), self.y(y)) for x, y in points]

    def names(
        self, points: Iterable[tuple[str, tuple[float, float]]]
    ) -> list[tuple[str, float, float, float]]:
        """Place names beside points, below one another: (name, x, y, height of the name)."""
        placed = [(name, self.x(x), self.y(y)) for name, (x, y) in points]
        placed.sort(key=lambda place: place[2])
        heights = apart([y for _, _, y in placed], LINE, self.bottom)
        return [(*place, height) for place, height in zip(placed, heights, strict=True)]


def apart(positions: Sequence[float], gap: float, lowest: float) -> list[float]:
    """Move positions until each is `gap` from the one before and none is beyond `lowest`."""
    moved: list[float] = []
    for position in positions:
        moved.append(max(position, moved[-1] + gap) if moved else position)
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], lowest)
        lowest = moved[index] - gap
    return moved


def lines(
    curves: Sequence[Curve], label: str, x_title: str, y_title: str, are_shares: bool = False
) -> Markup:
    """Draw curves with their names at their ends.

    Shares go from 0 to 1 on both axes, and the diagonal is drawn.
    """
    shown = [curve for curve in curves if curve.points]
    points = [(1.0, 1.0)] if are_shares else list(chain(*(curve.points for curve in shown)))
    far = max((x for x, _ in points), default=1.0) or 1.0
    ticks = nice_ticks(max((y for _, y in points), default=1.0))
    y_ticks = [(tick, f"{tick:.3g}") for tick in ticks]
    thirds = [far * part / 3 for part in range(4)]
    x_ticks = y_ticks if are_shares else [(tick, short_number(tick)) for tick in thirds]
    plane = Plane(x_ticks, y_ticks, x_title, y_title, far, ticks[-1])
    return draw("curves", plane, shown, label, are_shares)


def steps(
    series: Sequence[Series], names: Sequence[str], label: str, x_title: str, y_title: str
) -> Markup:
    """Draw rates from 0 to 100 percent at named steps, with intervals, joined by a line.

    Steps are equally far apart, whatever their names say. Series stand a little beside each other,
    so that their intervals can be seen.
    """
    x_ticks = [(index + 0.5, name) for index, name in enumerate(names)]
    plane = Plane(x_ticks, PERCENTS, x_title, y_title, far=float(len(names)))
    # In the units of the axis, where a step is 1 wide.
    shift = SHIFT / (plane.right - plane.left) * plane.far
    curves = []
    for index, line in enumerate(series):
        first = 0.5 + (index - (len(series) - 1) / 2) * shift
        points, rates = [], []
        for step, rate in enumerate(line.rates):
            if rate and rate.value is not None:
                points.append((first + step, rate.value))
                rates.append(rate)
        if points:
            curves.append(Curve(line.label, line.style, points, rates))
    return draw("curves", plane, curves, label, False)


def scatter(points: Sequence[Point], label: str, x_title: str, y_title: str) -> Markup:
    """Draw points between 0 and 100 percent, each with its mark, intervals and name.

    A line joins the frontier: less is better across, more is better upwards.
    """
    right, bottom = WIDTH - 14, TOP + HEIGHT
    plane = Plane(PERCENTS, PERCENTS, x_title, y_title, right=right, bottom=bottom)
    edge = sorted(point.values for point in frontier(points))
    return draw("scatter", plane, points, edge, label)


def beats(point: Point, other: Point) -> bool:
    """Return whether one point is further left and no lower, or higher and no further right."""
    (x, y), (other_x, other_y) = point.values, other.values
    return (x, y) != (other_x, other_y) and x <= other_x and y >= other_y


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats."""
    beaten = {id(other) for point, other in product(points, points) if beats(point, other)}
    return [point for point in points if id(point) not in beaten]
