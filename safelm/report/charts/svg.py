"""SVG elements as escaped markup, and the measures that all charts share.

Colours, strokes and fonts are classes of page.css, so charts follow the reader's light or dark
scheme. Every chart is about as wide as a phone; wide screens show several side by side.
"""

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup, escape

WIDTH = 380.0
SMALL, MEDIUM = 11.0, 12.0  # font sizes
LETTER = 0.56  # mean width of a sans-serif letter, as a share of the font size
# Marks of points, so that colour does not carry the meaning alone.
SHAPES = {
    "s1": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "s2": "M-5 -5h10v10h-10z",
    "s3": "M0 -6l6 11h-12z",
    "s4": "M0 -6l6 6l-6 6l-6 -6z",
    "s5": "M-6 -2h4v-4h4v4h4v4h-4v4h-4v-4h-4z",
    "s6": "M0 6l-6 -11h12z",
    "s7": "M-6 -6h12l-3.5 6l3.5 6h-12l3.5 -6z",
    "s8": "M0 -3l3 -3l3 3l-3 3l3 3l-3 3l-3 -3l-3 3l-3 -3l3 -3l-3 -3l3 -3z",
}
# Patterns of areas, for the same reason; s1 and s5 are plain.
PATTERNS = {
    "s2": "slant",
    "s3": "dots",
    "s4": "cross",
    "s6": "back",
    "s7": "upright",
    "s8": "level",
    "l2": "dots",
    "l3": "slant",
    "l5": "cross",
}


def element(name: str, *children: object, **attributes: object) -> Markup:
    """Build an element; all text and all values are escaped.

    An attribute `class_` is written class, `font_size` font-size; None is left out.
    """
    opening = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escape(number(value))}"'
        for key, value in attributes.items()
        if value is not None
    )
    inner = "".join(escape(child) for child in children)
    return Markup(f"<{name}{opening}>{inner}</{name}>")


def number(value: object) -> object:
    """Round coordinates to one decimal, so that the last bits of a machine do not show."""
    return f"{value + 0.0:.1f}".removesuffix(".0") if isinstance(value, float) else value


def chart(width: float, height: float, label: str, *children: object) -> Markup:
    """Wrap drawn elements into an image, with a label for screen readers."""
    limits = f"max-width:{number(width * 1.1)}px;min-width:{number(min(width, 300.0))}px"
    return element(
        "svg",
        *children,
        class_="chart",
        role="img",
        aria_label=label,
        viewBox=f"0 0 {number(width)} {number(height)}",
        style=limits,
    )


def text(
    x: float, y: float, words: str, *, class_: str = "", anchor: str | None = None, **more: Any
) -> Markup:
    """Draw text at a position."""
    return element("text", words, x=x, y=y, class_=class_ or None, text_anchor=anchor, **more)


def text_width(words: str, size: float = SMALL) -> float:
    """Estimate the width of a text."""
    return len(words) * size * LETTER


def shortened(words: str, width: float, size: float = SMALL) -> str:
    """Cut a text to a width, with an ellipsis where something is lost."""
    letters = int(width / (size * LETTER))
    if len(words) <= letters:
        return words
    return words[: max(1, letters - 1)].rstrip() + "…"


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """Draw a straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def path(points: Sequence[tuple[float, float]], class_: str, title: str = "") -> Markup:
    """Draw a line through points."""
    route = "L".join(f"{number(x)} {number(y)}" for x, y in points)
    return element("path", *_title(title), d=f"M{route}", class_=class_)


def _title(hint: str) -> list[Markup]:
    return [element("title", hint)] if hint else []


def block(x: float, y: float, width: float, height: float, style: str, hint: str = "") -> Markup:
    """Draw a filled rectangle with the pattern of its style."""
    size = {"x": x, "y": y, "width": max(width, 0.8), "height": height}
    fill = element("rect", *_title(hint), class_=style, **size)
    if style not in PATTERNS:
        return fill
    return fill + element("rect", fill=f"url(#{PATTERNS[style]})", pointer_events="none", **size)


def mark(x: float, y: float, style: str, hint: str = "") -> Markup:
    """Draw the mark of a point."""
    move = f"translate({number(x)} {number(y)})"
    return element("path", *_title(hint), d=SHAPES[style], transform=move, class_=f"{style} mark")


def dot(x: float, y: float, style: str, hint: str = "") -> Markup:
    """Draw a dot, hollow or full by its style."""
    return element("circle", *_title(hint), cx=x, cy=y, r=4.5, class_=style)


def seed_dots(centres: Sequence[tuple[float, float]]) -> list[Markup]:
    """Draw a small dot for each seed of a pooled rate."""
    return [element("circle", cx=x, cy=y, r=2.2, class_="seed") for x, y in centres]


def swatch(style: str) -> Markup:
    """Draw the sample of a legend: an area, or for `mark s1` and `dot before` the point itself."""
    kind, _, name = style.rpartition(" ")
    draw = {"mark": mark, "dot": dot}.get(kind)
    inside = draw(8.0, 6.0, name) if draw else block(0.5, 0.5, 15.0, 11.0, name)
    return element("svg", inside, class_="swatch", viewBox="0 0 16 12", aria_hidden="true")


def diamond(x: float, y: float, hint: str) -> Markup:
    """Draw the mark of a value that the paper reports."""
    shape = f"M{number(x)} {number(y - 5)}l5 5l-5 5l-5 -5z"
    return element("path", *_title(hint), d=shape, class_="paper")


def nice_ticks(highest: float, about: int = 4) -> list[float]:
    """Choose round numbers from 0 to at least `highest`, about so many."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / about
    power = _power_of_ten(rough)
    steps = (factor * power for factor in (1, 2, 2.5, 5, 10))
    # The tolerance keeps a step whose last bit is lost in the division.
    step = next(step for step in steps if step >= rough * 0.999999)
    count = 1
    while step * count < highest * 0.999999:
        count += 1
    return [step * index for index in range(count + 1)]


def _power_of_ten(value: float) -> float:
    """Return the power of ten at or below a value; math.log10 errs near whole powers."""
    exponent = 0
    while value >= 10:
        value, exponent = value / 10, exponent + 1
    while value < 1:
        value, exponent = value * 10, exponent - 1
    return 10.0**exponent


def axis_below(
    x: Callable[[float], float], top: float, bottom: float, ticks: Sequence[tuple[float, str]]
) -> Markup:
    """Draw thin lines down the plot and their values below it."""
    grid = [line(x(value), top, x(value), bottom, "grid") for value, _ in ticks]
    labels = [
        text(x(value), bottom + 14, name, class_="tick", anchor="middle") for value, name in ticks
    ]
    return Markup("").join([*grid, *labels])
