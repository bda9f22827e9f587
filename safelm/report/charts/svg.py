"""The template of charts, the measures that all share, and what those on two axes are drawn of.

Colours, strokes and fonts are classes of page.css, so charts follow the reader's light or dark
scheme. Every chart is about as wide as a phone; wide screens show several side by side.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10
from operator import itemgetter
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from safelm.report.charts.numbers import percent, rate_text, short_number
from safelm.stats.rates import Rate

REPORT = Path(__file__).parents[1]
TEMPLATE = "charts/charts.svg.jinja"
WIDTH = 380.0
SMALL = 11.0  # the font size
LETTER = 0.56  # mean width of a sans-serif letter, as a share of the font size
LINE = 13.0  # the height of a name beside a point
TOLERANCE = 0.999999  # of ticks

Position = tuple[float, float]


@dataclass(frozen=True)
class Axis:
    """An axis of a chart: from the position `start` at 0 to `end` at `highest`."""

    start: float
    end: float
    ticks: Sequence[tuple[float, str]]
    highest: float = 1.0
    title: str = ""

    def __call__(self, value: float) -> float:
        """Return the position of a value."""
        return self.start + value / self.highest * (self.end - self.start)


@dataclass(frozen=True)
class Curve:
    """A line of (x, y) points; `rates` holds the rate of each, where they have intervals."""

    label: str
    style: str
    points: Sequence[Position]
    rates: Sequence[Rate] = ()


@dataclass(frozen=True)
class Point:
    """Two rates of one model or decoder."""

    label: str
    style: str
    x: Rate
    y: Rate

    @property
    def values(self) -> Position:
        """Both values, 0 where nothing was counted."""
        return self.x.value or 0.0, self.y.value or 0.0


def draw(macro: str, *values: Any) -> Markup:
    """Draw by a macro of charts.svg.jinja; all values are escaped."""
    return getattr(ENVIRONMENT.get_template(TEMPLATE).module, macro)(*values)


def render(template: str, **values: Any) -> str:
    """Fill a template of the report, with the style sheet."""
    css = Markup((REPORT / "page.css").read_text(encoding="utf-8"))
    return ENVIRONMENT.get_template(template).render(css=css, **values)


def number(value: float) -> str:
    """Round coordinates to one decimal, so that the last bits of a machine do not show."""
    return f"{value + 0.0:.1f}".removesuffix(".0")


def text_width(words: str, size: float = SMALL) -> float:
    """Estimate the width of a text."""
    return len(words) * size * LETTER


def shortened(words: str, width: float, size: float = SMALL) -> str:
    """Cut a text to a width, with an ellipsis where something is lost."""
    letters = int(width / (size * LETTER))
    if len(words) <= letters:
        return words
    return words[: max(1, letters - 1)].rstrip() + "…"


def nice_ticks(highest: float, about: int = 4) -> list[float]:
    """Choose round numbers from 0 to at least `highest`, about so many."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / about
    power = 10.0 ** floor(log10(rough))
    steps = (factor * power for factor in (1, 2, 2.5, 5, 10))
    # A step whose last bit is lost in the division is large enough.
    step = next(step for step in steps if step >= rough * TOLERANCE)
    count = ceil(highest / step * TOLERANCE)
    return [step * index for index in range(count + 1)]


def apart(positions: Sequence[float], gap: float, lowest: float) -> list[float]:
    """Move positions until each is `gap` from the one before and none is beyond `lowest`."""
    moved: list[float] = []
    for position in positions:
        moved.append(max(position, moved[-1] + gap) if moved else position)
    # Positions that were pushed beyond the lowest move back, and push those before them.
    for index in reversed(range(len(moved))):
        moved[index] = min(moved[index], lowest)
        lowest = moved[index] - gap
    return moved


def names_beside(
    across: Axis, up: Axis, points: Iterable[tuple[str, Position]]
) -> Iterator[tuple[str, float, float, float]]:
    """Place names beside points, below one another: (name, x, y, height of the name)."""
    placed = [(name, across(x), up(y)) for name, (x, y) in points]
    placed.sort(key=itemgetter(2))
    heights = apart([height for *_, height in placed], LINE, up.start)
    for place, height in zip(placed, heights, strict=True):
        yield *place, height


def better_points(point: Point, points: Sequence[Point]) -> list[Point]:
    """Return the points further left and no lower, or higher and no further right."""
    x, y = point.values
    beyond = [one for one in points if one.values[0] <= x and one.values[1] >= y]
    return [one for one in beyond if one.values != (x, y)]


ENVIRONMENT = Environment(
    loader=FileSystemLoader(REPORT),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
FILTERS = (shortened, text_width, percent, rate_text, short_number, nice_ticks)
ENVIRONMENT.filters |= {"n": number, **{filter.__name__: filter for filter in FILTERS}}
ENVIRONMENT.globals |= {"WIDTH": WIDTH, "Axis": Axis, "names_beside": names_beside}
