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

REPORT = Path(__file__).parents[1]
TEMPLATE = "charts/charts.svg.jinja"
WIDTH = 380.0
SMALL = 11.0  # the font size
LETTER = 0.56  # mean width of a sans-serif letter, as a share of the font size
TOLERANCE = 0.999999  # of ticks


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


ENVIRONMENT = Environment(
    loader=FileSystemLoader(REPORT),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
FILTERS = (shortened, text_width, percent, rate_text)
ENVIRONMENT.filters |= {"n": number, **{filter.__name__: filter for filter in FILTERS}}
ENVIRONMENT.globals["WIDTH"] = WIDTH
