"""Charts on two axes: curves over tokens, and points with an interval in both directions."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from safelm.report.charts.numbers import amount, percent, rate_text
from safelm.report.charts.svg import (
    MEDIUM,
    WIDTH,
    chart,
    element,
    length,
    line,
    mark,
    nice_ticks,
    number,
    shortened,
    words,
)
from safelm.stats.rates import Rate

LEFT, TOP, SIDE = 46.0, 10.0, 250.0
NAMES = 96.0  # the column of names beside the curves
Box = tuple[float, float, float, float]
Ticks = Sequence[tuple[float, str]]


@dataclass(frozen=True)
class Curve:
    """A line of (x, y) points."""

    label: str
    style: str
    points: Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Point:
    """Two rates of one thing."""

    label: str
    style: str
    x: Rate
    y: Rate


@dataclass(frozen=True)
class Plane:
    """A plot from 0 to `far` and from 0 to `high`."""

    far: float
    high: float
    right: float
    bottom: float

    def x(self, value: float) -> float:
        """Where a value lies from left to right."""
        return LEFT + value / self.far * (self.right - LEFT)

    def y(self, value: float) -> float:
        """Where a value lies from top to bottom."""
        return self.bottom - value / self.high * (self.bottom - TOP)

    def axes(self, x_ticks: Ticks, y_ticks: Ticks, x_title: str, y_title: str) -> Markup:
        """The grid, its values and the two titles."""
        drawn = []
        for value, text in x_ticks:
            drawn.append(line(self.x(value), TOP, self.x(value), self.bottom, "grid"))
            drawn.append(
                words(self.x(value), self.bottom + 14, text, class_="tick", anchor="middle")
            )
        for value, text in y_ticks:
            drawn.append(line(LEFT, self.y(value), self.right, self.y(value), "grid"))
            drawn.append(words(LEFT - 5, self.y(value) + 4, text, class_="tick", anchor="end"))
        middle = (TOP + self.bottom) / 2
        turn = f"rotate(-90 10 {number(middle)})"
        below = words(
            (LEFT + self.right) / 2, self.bottom + 30, x_title, class_="title", anchor="middle"
        )
        return Markup("").join(
            [
                *drawn,
                below,
                words(10.0, middle, y_title, class_="title", anchor="middle", transform=turn),
            ]
        )


def lines(
    curves: Sequence[Curve], label: str, *, x_title: str, y_title: str, are_shares: bool = False
) -> Markup:
    """Curves with their names at their ends. Shares go from 0 to 1 on both axes, and the diagonal
    is drawn.
    """
    points = [(1.0, 1.0)] if are_shares else [point for curve in curves for point in curve.points]
    far = max((at for at, _ in points), default=1.0) or 1.0
    ticks = nice_ticks(max((value for _, value in points), default=1.0))
    plane = Plane(far, ticks[-1], WIDTH - NAMES, TOP + SIDE - 30)
    y_ticks = [(tick, f"{tick:.3g}") for tick in ticks]
    x_ticks = (
        y_ticks if are_shares else [(far * part / 3, amount(far * part / 3)) for part in range(4)]
    )
    drawn = [plane.axes(x_ticks, y_ticks, x_title, y_title)]
    if are_shares:
        drawn.append(line(plane.x(0.0), plane.y(0.0), plane.x(1.0), plane.y(1.0), "lead"))
    shown = sorted(
        (curve for curve in curves if curve.points), key=lambda curve: plane.y(curve.points[-1][1])
    )
    places = apart([plane.y(curve.points[-1][1]) for curve in shown], 13.0, plane.bottom)
    for curve, place in zip(shown, places, strict=True):
        path = "M" + "L".join(
            f"{number(plane.x(at))} {number(plane.y(value))}" for at, value in curve.points
        )
        drawn.append(
            element(
                "path", element("title", curve.label), d=path, class_=f"curve {curve.style}-line"
            )
        )
        end, value = curve.points[-1]
        drawn.append(line(plane.x(end), plane.y(value), plane.right + 10, place, "lead"))
        drawn.append(
            words(
                plane.right + 13,
                place + 4,
                shortened(curve.label, NAMES - 13),
                class_="label strong",
            )
        )
    return chart(WIDTH, plane.bottom + 36, label, *drawn)


@dataclass(frozen=True)
class Series:
    """A rate at each of some places; None where it was not measured."""

    label: str
    style: str
    rates: Sequence[Rate | None]


def steps(
    series: Sequence[Series], places: Sequence[str], label: str, *, x_title: str, y_title: str
) -> Markup:
    """Rates from 0 to 100 percent at named places, each with its interval, and the way from one to
    the next.

    Places are equally far apart, whatever they say; series stand a little beside each other, so
    that intervals show."""
    plane = Plane(float(len(places)), 1.0, WIDTH - NAMES, TOP + SIDE - 30)
    x_ticks = [(place + 0.5, name) for place, name in enumerate(places)]
    drawn = [
        plane.axes(x_ticks, [(part / 4, f"{part * 25}") for part in range(5)], x_title, y_title)
    ]
    found = [
        [
            (plane.x(place + 0.5) + (number - (len(series) - 1) / 2) * 5, rate)
            for place, rate in enumerate(one.rates)
            if rate is not None and rate.value is not None
        ]
        for number, one in enumerate(series)
    ]
    shown = [(one, points) for one, points in zip(series, found, strict=True) if points]
    for one, points in shown:
        drawn.append(_way(one, points, plane))
    ends = sorted(shown, key=lambda pair: plane.y(pair[1][-1][1].value or 0.0))
    names = apart([plane.y(points[-1][1].value or 0.0) for _, points in ends], 13.0, plane.bottom)
    for (one, points), place in zip(ends, names, strict=True):
        end, rate = points[-1]
        drawn.append(line(end + 6, plane.y(rate.value or 0.0), plane.right + 10, place, "lead"))
        drawn.append(
            words(
                plane.right + 13, place + 4, shortened(one.label, NAMES - 13), class_="label strong"
            )
        )
    return chart(WIDTH, plane.bottom + 36, label, *drawn)


def _way(one: Series, points: Sequence[tuple[float, Rate]], plane: Plane) -> Markup:
    """A series: its line, and at each place its mark and interval."""
    path = "M" + "L".join(f"{number(x)} {number(plane.y(rate.value or 0.0))}" for x, rate in points)
    drawn = [element("path", d=path, class_=f"curve {one.style}-line")]
    for x, rate in points:
        drawn.append(line(x, plane.y(rate.low or 0.0), x, plane.y(rate.high or 0.0), "whisker"))
        drawn += [
            element("circle", cx=x, cy=plane.y(seed), r=2.0, class_="seed") for seed in rate.seeds
        ]
        drawn.append(
            mark(x, plane.y(rate.value or 0.0), one.style, f"{one.label}: {rate_text(rate)}")
        )
    return Markup("").join(drawn)


def apart(places: Sequence[float], gap: float, lowest: float) -> list[float]:
    """The places, moved down until each is `gap` from the one before, then up until none is beyond
    `lowest`.
    """
    moved: list[float] = []
    for place in places:
        moved.append(max(place, moved[-1] + gap) if moved else place)
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], lowest)
        lowest = moved[index] - gap
    return moved


def scatter(points: Sequence[Point], label: str, *, x_title: str, y_title: str) -> Markup:
    """Points between 0 and 100 percent on both axes; each has its own mark, its intervals and its
    name.

    A line joins the frontier: less is better across, more is better upwards.
    """
    plane = Plane(1.0, 1.0, WIDTH - 14, TOP + SIDE)
    ticks = [(part / 4, f"{part * 25}") for part in range(5)]
    crosses, marks, taken = [], [], []
    for point in points:
        x, y = plane.x(point.x.value or 0.0), plane.y(point.y.value or 0.0)
        left, right = plane.x(point.x.low or 0.0), plane.x(point.x.high or 0.0)
        low, high = plane.y(point.y.low or 0.0), plane.y(point.y.high or 0.0)
        crosses += [line(left, y, right, y, "whisker"), line(x, low, x, high, "whisker")]
        hint = (
            f"{point.label}: {x_title} {percent(point.x.value)}, {y_title} {percent(point.y.value)}"
        )
        marks.append(mark(x, y, point.style, hint))
        taken += [
            (x - 7, y - 7, x + 7, y + 7),
            (left, y - 2, right, y + 2),
            (x - 2, high, x + 2, low),
        ]
    edge = sorted(
        (plane.x(point.x.value or 0.0), plane.y(point.y.value or 0.0)) for point in frontier(points)
    )
    path = "M" + "L".join(f"{number(x)} {number(y)}" for x, y in edge)
    joined = [element("path", d=path, class_="curve frontier")] if len(edge) > 1 else []
    names = [_name(point, plane, taken) for point in points]
    axes = plane.axes(ticks, ticks, x_title, y_title)
    return chart(WIDTH, plane.bottom + 36, label, axes, *joined, *crosses, *marks, *names)


def beats(one: Point, other: Point) -> bool:
    """Whether one point lies further to the left and no lower, or higher and no further to the
    right.
    """
    x, y = ((point.x.value or 0.0, -(point.y.value or 0.0)) for point in (one, other))
    return x != y and x[0] <= y[0] and x[1] <= y[1]


def frontier(points: Sequence[Point]) -> list[Point]:
    """The points that no other beats."""
    return [point for point in points if not any(beats(other, point) for other in points)]


def _name(point: Point, plane: Plane, taken: list[Box]) -> Markup:
    """The name of a point, at the first place around it that is free; if none is, its mark and the
    legend must do.
    """
    x, y, wide = (
        plane.x(point.x.value or 0.0),
        plane.y(point.y.value or 0.0),
        length(point.label, MEDIUM) + 2,
    )
    for step in (2.0, 8.0, 15.0, 22.0, 30.0, 40.0, 52.0):
        for left in (x + 9, x - 9 - wide):
            for top in (y - 12 - step, y + step):
                box = (left, top, left + wide, top + 12)
                inside = (
                    left >= LEFT and box[2] <= plane.right and top >= TOP and box[3] <= plane.bottom
                )
                if inside and not any(_meet(box, other) for other in taken):
                    taken.append(box)
                    return words(left, top + 10, point.label, class_="label strong halo")
    return Markup("")


def _meet(one: Box, other: Box) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]
