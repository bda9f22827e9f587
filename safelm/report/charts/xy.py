"""Charts on two axes: curves, rates in steps, and points with intervals in both directions."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from safelm.report.charts import svg
from safelm.report.charts.numbers import percent, rate_text, short_number
from safelm.stats.rates import Rate

LEFT, TOP, HEIGHT = 46.0, 10.0, 250.0
NAMES = 96.0  # the column of names beside the curves
LINE = 13.0  # the height of a name
PERCENTS = [(part / 4, f"{part * 25}") for part in range(5)]

Box = tuple[float, float, float, float]  # left, top, right, bottom
Ticks = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Curve:
    """A line of (x, y) points."""

    label: str
    style: str
    points: Sequence[tuple[float, float]]


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

    far: float
    high: float
    right: float = svg.WIDTH - NAMES
    bottom: float = TOP + HEIGHT - 30

    def x(self, value: float) -> float:
        """Return the horizontal position of a value."""
        return LEFT + value / self.far * (self.right - LEFT)

    def y(self, value: float) -> float:
        """Return the vertical position of a value."""
        return self.bottom - value / self.high * (self.bottom - TOP)

    def axes(self, x_ticks: Ticks, y_ticks: Ticks, x_title: str, y_title: str) -> Markup:
        """Draw the grid, its values and the two titles."""
        drawn = [svg.axis_below(self.x, TOP, self.bottom, x_ticks)]
        for value, name in y_ticks:
            y = self.y(value)
            drawn.append(svg.line(LEFT, y, self.right, y, "grid"))
            drawn.append(svg.text(LEFT - 5, y + 4, name, class_="tick", anchor="end"))
        across, upwards = (LEFT + self.right) / 2, (TOP + self.bottom) / 2
        turn = f"rotate(-90 10 {svg.number(upwards)})"
        title = {"class_": "title", "anchor": "middle"}
        drawn.append(svg.text(across, self.bottom + 30, x_title, **title))
        drawn.append(svg.text(10.0, upwards, y_title, **title, transform=turn))
        return Markup("").join(drawn)

    def end_names(self, ends: Sequence[tuple[str, float, float]]) -> list[Markup]:
        """Write names beside the (name, x, y) ends of lines, moved apart where they overlap."""
        ends = sorted(ends, key=lambda end: end[2])
        drawn = []
        for (name, x, y), moved in zip(
            ends, apart([y for _, _, y in ends], LINE, self.bottom), strict=True
        ):
            drawn.append(svg.line(x, y, self.right + 10, moved, "lead"))
            name = svg.shortened(name, NAMES - LINE)
            drawn.append(svg.text(self.right + LINE, moved + 4, name, class_="label strong"))
        return drawn


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
    points = [(1.0, 1.0)] if are_shares else [point for curve in shown for point in curve.points]
    far = max((x for x, _ in points), default=1.0) or 1.0
    ticks = svg.nice_ticks(max((y for _, y in points), default=1.0))
    plane = Plane(far, ticks[-1])
    y_ticks = [(tick, f"{tick:.3g}") for tick in ticks]
    thirds = [far * part / 3 for part in range(4)]
    x_ticks = y_ticks if are_shares else [(tick, short_number(tick)) for tick in thirds]
    drawn = [plane.axes(x_ticks, y_ticks, x_title, y_title)]
    if are_shares:
        corners = (plane.x(0.0), plane.y(0.0), plane.x(1.0), plane.y(1.0))
        drawn.append(svg.line(*corners, "lead"))
    ends = []
    for curve in shown:
        places = [(plane.x(x), plane.y(y)) for x, y in curve.points]
        drawn.append(svg.path(places, f"curve {curve.style}-line", curve.label))
        ends.append((curve.label, *places[-1]))
    return svg.chart(svg.WIDTH, plane.bottom + 36, label, *drawn, *plane.end_names(ends))


def steps(
    series: Sequence[Series], names: Sequence[str], label: str, *, x_title: str, y_title: str
) -> Markup:
    """Draw rates from 0 to 100 percent at named steps, with intervals, joined by a line.

    Steps are equally far apart, whatever their names say. Series stand a little beside each other,
    so that their intervals can be seen.
    """
    plane = Plane(float(len(names)), 1.0)
    x_ticks = [(index + 0.5, name) for index, name in enumerate(names)]
    drawn = [plane.axes(x_ticks, PERCENTS, x_title, y_title)]
    ends = []
    for index, one in enumerate(series):
        shift = (index - (len(series) - 1) / 2) * 5
        places = [
            (plane.x(step + 0.5) + shift, rate)
            for step, rate in enumerate(one.rates)
            if rate is not None and rate.value is not None
        ]
        if places:
            drawn.append(_stepped(one, places, plane))
            x, rate = places[-1]
            ends.append((one.label, x + 6, plane.y(rate.value or 0.0)))
    return svg.chart(svg.WIDTH, plane.bottom + 36, label, *drawn, *plane.end_names(ends))


def _stepped(one: Series, places: Sequence[tuple[float, Rate]], plane: Plane) -> Markup:
    centres = [(x, plane.y(rate.value or 0.0)) for x, rate in places]
    drawn = [svg.path(centres, f"curve {one.style}-line")]
    for (x, y), (_, rate) in zip(centres, places, strict=True):
        low, high = plane.y(rate.low or 0.0), plane.y(rate.high or 0.0)
        drawn.append(svg.line(x, low, x, high, "whisker"))
        drawn += svg.seed_dots([(x, plane.y(seed)) for seed in rate.seeds])
        drawn.append(svg.mark(x, y, one.style, f"{one.label}: {rate_text(rate)}"))
    return Markup("").join(drawn)


def scatter(points: Sequence[Point], label: str, *, x_title: str, y_title: str) -> Markup:
    """Draw points between 0 and 100 percent, each with its mark, intervals and name.

    A line joins the frontier: less is better across, more is better upwards.
    """
    plane = Plane(1.0, 1.0, svg.WIDTH - 14, TOP + HEIGHT)
    crosses: list[Markup] = []
    marks: list[Markup] = []
    taken: list[Box] = []
    for point in points:
        x, y = plane.x(point.values[0]), plane.y(point.values[1])
        left, right = plane.x(point.x.low or 0.0), plane.x(point.x.high or 0.0)
        low, high = plane.y(point.y.low or 0.0), plane.y(point.y.high or 0.0)
        crosses.append(svg.line(left, y, right, y, "whisker"))
        crosses.append(svg.line(x, low, x, high, "whisker"))
        across, upwards = (percent(value) for value in (point.x.value, point.y.value))
        hint = f"{point.label}: {x_title} {across}, {y_title} {upwards}"
        marks.append(svg.mark(x, y, point.style, hint))
        taken.append((x - 7, y - 7, x + 7, y + 7))
        taken.append((left, y - 2, right, y + 2))
        taken.append((x - 2, high, x + 2, low))
    edge = sorted((plane.x(x), plane.y(y)) for x, y in (one.values for one in frontier(points)))
    joined = [svg.path(edge, "curve frontier")] if len(edge) > 1 else []
    names = [_name(point, plane, taken) for point in points]
    axes = plane.axes(PERCENTS, PERCENTS, x_title, y_title)
    drawn = [axes, *joined, *crosses, *marks, *names]
    return svg.chart(svg.WIDTH, plane.bottom + 36, label, *drawn)


def beats(one: Point, other: Point) -> bool:
    """Return whether one point is further left and no lower, or higher and no further right."""
    (x, y), (other_x, other_y) = one.values, other.values
    return (x, y) != (other_x, other_y) and x <= other_x and y >= other_y


def frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points that no other beats."""
    return [point for point in points if not any(beats(other, point) for other in points)]


def _name(point: Point, plane: Plane, taken: list[Box]) -> Markup:
    """Write a name at the first free place around its point, if there is any."""
    x, y = plane.x(point.values[0]), plane.y(point.values[1])
    width = svg.text_width(point.label, svg.MEDIUM) + 2
    for distance in (2.0, 8.0, 15.0, 22.0, 30.0, 40.0, 52.0):
        for left in (x + 9, x - 9 - width):
            for top in (y - 12 - distance, y + distance):
                box = (left, top, left + width, top + 12)
                if _is_inside(box, plane) and not any(_overlap(box, other) for other in taken):
                    taken.append(box)
                    return svg.text(left, top + 10, point.label, class_="label strong halo")
    return Markup("")


def _is_inside(box: Box, plane: Plane) -> bool:
    left, top, right, bottom = box
    return left >= LEFT and right <= plane.right and top >= TOP and bottom <= plane.bottom


def _overlap(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
