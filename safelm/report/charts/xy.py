"""Charts on two axes: curves, rates in steps, and points with intervals in both directions."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, product

from markupsafe import Markup

from safelm.report.charts.numbers import short_number
from safelm.report.charts.svg import MEDIUM, WIDTH, draw, nice_ticks, text_width
from safelm.stats.rates import Rate

LEFT, TOP, HEIGHT = 46.0, 10.0, 250.0
NAMES = 96.0  # the column of names beside the curves
LINE = 13.0  # the height of a name
PERCENTS = [(part / 4, f"{part * 25}") for part in range(5)]
DISTANCES = (2.0, 8.0, 15.0, 22.0, 30.0, 40.0, 52.0)  # of a name from its point, the nearest first

Box = tuple[float, float, float, float]  # left, top, right, bottom
Ticks = Sequence[tuple[float, str]]
Points = Sequence[tuple[float, float]]
End = tuple[str, float, float]  # a name, and the position where its line ends


@dataclass(frozen=True)
class Curve:
    """A line of (x, y) points."""

    label: str
    style: str
    points: Points


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

    def ends(self, curves: Sequence[Curve]) -> list[End]:
        """Return the names and ends of curves."""
        return [(curve.label, *self.at(curve.points[-1:])[0]) for curve in curves]

    def apart(self, ends: Sequence[End]) -> Iterator[tuple[str, float, float, float]]:
        """Move the names of ends apart: (name, x, y, the height of the name)."""
        ordered = sorted(ends, key=lambda end: end[2])
        moved = apart([y for _, _, y in ordered], LINE, self.bottom)
        for (name, x, y), height in zip(ordered, moved, strict=True):
            yield name, x, y, height


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
    curves: Sequence[Curve], label: str, *, x_title: str, y_title: str, are_shares: bool = False
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
    return draw("lines", plane, shown, label, are_shares)


@dataclass(frozen=True)
class Placed:
    """A series with the positions of its rates."""

    label: str
    style: str
    places: Sequence[tuple[tuple[float, float], Rate]]

    @property
    def centres(self) -> Points:
        """The positions alone."""
        return [centre for centre, _ in self.places]

    @property
    def end(self) -> End:
        """The name, and the last position."""
        x, y = self.centres[-1]
        return self.label, x + 6, y


def steps(
    series: Sequence[Series], names: Sequence[str], label: str, *, x_title: str, y_title: str
) -> Markup:
    """Draw rates from 0 to 100 percent at named steps, with intervals, joined by a line.

    Steps are equally far apart, whatever their names say. Series stand a little beside each other,
    so that their intervals can be seen.
    """
    x_ticks = [(index + 0.5, name) for index, name in enumerate(names)]
    plane = Plane(x_ticks, PERCENTS, x_title, y_title, far=float(len(names)))
    placed = []
    for index, line in enumerate(series):
        # Five units apart, around the middle of the step.
        shift = (index - (len(series) - 1) / 2) * 5
        places = [
            ((plane.x(step + 0.5) + shift, plane.y(rate.value)), rate)
            for step, rate in enumerate(line.rates)
            if rate is not None and rate.value is not None
        ]
        if places:
            placed.append(Placed(line.label, line.style, places))
    return draw("steps", plane, placed, label)


def scatter(points: Sequence[Point], label: str, *, x_title: str, y_title: str) -> Markup:
    """Draw points between 0 and 100 percent, each with its mark, intervals and name.

    A line joins the frontier: less is better across, more is better upwards.
    """
    right, bottom = WIDTH - 14, TOP + HEIGHT
    plane = Plane(PERCENTS, PERCENTS, x_title, y_title, right=right, bottom=bottom)
    taken: list[Box] = []
    for point in points:
        ((x, y),) = plane.at([point.values])
        across = (plane.x(point.x.low or 0.0), y - 2, plane.x(point.x.high or 0.0), y + 2)
        upwards = (x - 2, plane.y(point.y.high or 0.0), x + 2, plane.y(point.y.low or 0.0))
        taken += [(x - 7, y - 7, x + 7, y + 7), across, upwards]
    names = []
    for point in points:
        if box := _free_box(point, plane, taken):
            taken.append(box)
            names.append((point.label, box[0], box[1] + 10))
    edge = sorted(point.values for point in frontier(points))
    return draw("scatter", plane, points, edge, names, label)


def beats(point: Point, other: Point) -> bool:
    """Return whether one point is further left and no lower, or higher and no further right."""
    (x, y), (other_x, other_y) = point.values, other.values
    return (x, y) != (other_x, other_y) and x <= other_x and y >= other_y


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats."""
    beaten = {id(other) for point, other in product(points, points) if beats(point, other)}
    return [point for point in points if id(point) not in beaten]


def _free_box(point: Point, plane: Plane, taken: Sequence[Box]) -> Box | None:
    """Find the first free place around a point for its name; without one, its mark must do."""
    ((x, y),) = plane.at([point.values])
    width = text_width(point.label, MEDIUM) + 2
    lefts = (x + 9, x - 9 - width)
    for distance, left, is_above in product(DISTANCES, lefts, (True, False)):
        top = y - 12 - distance if is_above else y + distance
        box = (left, top, left + width, top + 12)
        is_inside = left >= plane.left and box[2] <= plane.right
        is_inside = is_inside and top >= plane.top and box[3] <= plane.bottom
        if is_inside and not any(_overlap(box, other) for other in taken):
            return box
    return None


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
