"""Drawing with a pencil: SVG elements as escaped markup, and the few measures that all charts
share.

Colours, strokes and fonts are classes of page.css, so that a chart follows the reader's light or
dark scheme. Every chart is about as wide as a telephone, so that its words stay readable there;
wide screens show several side by side."""

from collections.abc import Callable, Sequence
from typing import Any

from markupsafe import Markup, escape

WIDTH = 380.0
SMALL, MEDIUM = 11.0, 12.0  # sizes of words
SHAPES = {  # marks of points, so that colour is not alone
    "s1": "M-5 0a5 5 0 1 0 10 0a5 5 0 1 0 -10 0z",
    "s2": "M-5 -5h10v10h-10z",
    "s3": "M0 -6l6 11h-12z",
    "s4": "M0 -6l6 6l-6 6l-6 -6z",
    "s5": "M-6 -2h4v-4h4v4h4v4h-4v4h-4v-4h-4z",
    "s6": "M0 6l-6 -11h12z",
    "s7": "M-6 -6h12l-3.5 6l3.5 6h-12l3.5 -6z",
    "s8": "M0 -3l3 -3l3 3l-3 3l3 3l-3 3l-3 -3l-3 3l-3 -3l3 -3l-3 -3l3 -3z",
}
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
    """An element: `class_` is written class, `font_size` font-size, None is left out; everything is
    escaped.
    """
    pairs = [
        (key.rstrip("_").replace("_", "-"), value)
        for key, value in attributes.items()
        if value is not None
    ]
    opening = "".join(f' {key}="{escape(number(value))}"' for key, value in pairs)
    return Markup(f"<{name}{opening}>{''.join(escape(child) for child in children)}</{name}>")


def number(value: object) -> object:
    """Coordinates with one decimal, so that the last bits of a machine do not show."""
    return f"{value + 0.0:.1f}".removesuffix(".0") if isinstance(value, float) else value


def chart(width: float, height: float, label: str, *children: object) -> Markup:
    """A whole picture with a name for those who do not see it."""
    return element(
        "svg",
        *children,
        class_="chart",
        role="img",
        aria_label=label,
        viewBox=f"0 0 {number(width)} {number(height)}",
        style=f"max-width:{number(width * 1.1)}px;min-width:{number(min(width, 300.0))}px",
    )


def words(
    x: float, y: float, text: str, *, class_: str = "", anchor: str | None = None, **more: Any
) -> Markup:
    """A word at a place."""
    return element("text", text, x=x, y=y, class_=class_ or None, text_anchor=anchor, **more)


def length(text: str, size: float = SMALL) -> float:
    """About how wide a word is; a sans-serif letter is a little over half its size."""
    return len(text) * size * 0.56


def shortened(text: str, width: float, size: float = SMALL) -> str:
    """The text, with an ellipsis where it would not fit."""
    room = int(width / (size * 0.56))
    return text if len(text) <= room else text[: max(1, room - 1)].rstrip() + "…"


def line(x1: float, y1: float, x2: float, y2: float, class_: str) -> Markup:
    """A straight line."""
    return element("line", x1=x1, y1=y1, x2=x2, y2=y2, class_=class_)


def block(x: float, y: float, width: float, height: float, style: str, hint: str = "") -> Markup:
    """A filled rectangle with its pattern: what colours say, patterns say too."""
    place = {"x": x, "y": y, "width": max(width, 0.8), "height": height}
    fill = element("rect", element("title", hint) if hint else "", class_=style, **place)
    pattern = PATTERNS.get(style)
    over = (
        element("rect", fill=f"url(#{pattern})", pointer_events="none", **place)
        if pattern
        else Markup("")
    )
    return fill + over


def mark(x: float, y: float, style: str, hint: str = "") -> Markup:
    """The mark of a point."""
    place = f"translate({number(x)} {number(y)})"
    return element(
        "path",
        element("title", hint) if hint else "",
        d=SHAPES[style],
        transform=place,
        class_=f"{style} mark",
    )


def dot(x: float, y: float, style: str, hint: str = "") -> Markup:
    """A dot, hollow or full by its style."""
    return element(
        "circle", element("title", hint) if hint else "", cx=x, cy=y, r=4.5, class_=style
    )


def swatch(style: str) -> Markup:
    """The little picture of a legend: a field, or where the style says so the mark of a point."""
    kind, _, name = style.rpartition(" ")
    point = {"mark": mark, "dot": dot}.get(kind)
    inside = point(8.0, 6.0, name) if point else block(0.5, 0.5, 15.0, 11.0, name)
    return element("svg", inside, class_="swatch", viewBox="0 0 16 12", aria_hidden="true")


def diamond(x: float, y: float, hint: str) -> Markup:
    """The mark of a value that the paper reports."""
    shape = f"M{number(x)} {number(y - 5)}l5 5l-5 5l-5 -5z"
    return element("path", element("title", hint), d=shape, class_="paper")


def nice_ticks(highest: float, about: int = 4) -> list[float]:
    """Round numbers from 0 to at least `highest`."""
    if highest <= 0:
        return [0.0, 1.0]
    rough = highest / about
    power = 10.0 ** _exponent(rough)
    step = next(
        factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= rough * 0.999999
    )
    count = 1
    while step * count < highest * 0.999999:
        count += 1
    return [step * index for index in range(count + 1)]


def _exponent(value: float) -> int:
    exponent = 0
    while value >= 10:
        value, exponent = value / 10, exponent + 1
    while value < 1:
        value, exponent = value * 10, exponent - 1
    return exponent


def axis_below(
    x: Callable[[float], float], top: float, bottom: float, ticks: Sequence[tuple[float, str]]
) -> Markup:
    """Thin lines down the plot and their values below it."""
    grid = [line(x(value), top, x(value), bottom, "grid") for value, _ in ticks]
    labels = [
        words(x(value), bottom + 14, text, class_="tick", anchor="middle") for value, text in ticks
    ]
    return Markup("").join([*grid, *labels])
