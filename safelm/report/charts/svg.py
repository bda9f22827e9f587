"""The template of charts, and the measures that all charts share.

Colours, strokes and fonts are classes of page.css, so charts follow the reader's light or dark
scheme. Every chart is about as wide as a phone; wide screens show several side by side.
"""

from math import ceil, floor, log10
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from safelm.report.charts.numbers import percent, rate_text

TEMPLATE = Path(__file__).with_name("charts.svg.jinja")
WIDTH = 380.0
SMALL, MEDIUM = 11.0, 12.0  # font sizes
LETTER = 0.56  # mean width of a sans-serif letter, as a share of the font size
PITCH, HEADING = 19.0, 20.0  # from bar to bar, and the height of a heading
TOLERANCE = 0.999999  # of ticks
MAX_NAME = 110.0  # names of columns of a heat map are cut at this width
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


def draw(macro: str, *values: Any) -> Markup:
    """Draw by a macro of charts.svg.jinja; all values are escaped."""
    return getattr(ENVIRONMENT.get_template(TEMPLATE.name).module, macro)(*values)


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


def environment(folder: Path) -> Environment:
    """Open the templates of a folder."""
    return Environment(
        loader=FileSystemLoader(folder),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


ENVIRONMENT = environment(TEMPLATE.parent)
FILTERS = (shortened, text_width, percent, rate_text)
ENVIRONMENT.filters |= {"n": number, **{filter.__name__: filter for filter in FILTERS}}
ENVIRONMENT.globals |= {
    "WIDTH": WIDTH,
    "MEDIUM": MEDIUM,
    "PITCH": PITCH,
    "HEADING": HEADING,
    "MAX_NAME": MAX_NAME,
    "SHAPES": SHAPES,
    "PATTERNS": PATTERNS,
}
