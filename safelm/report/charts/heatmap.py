"""Heat maps: a grid whose cells say their value in words and in shade."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from safelm.report.charts.svg import WIDTH, chart, element, length, number, shortened, words

LONGEST = 110.0  # a column's name is cut there
DARK = 0.8  # above this shade the words in a cell are light


@dataclass(frozen=True)
class Square:
    """A cell: what it says, how dark it is (0 to 1; None for nothing to show), and the hint."""

    text: str
    shade: float | None
    hint: str


def heat_map(
    rows: Sequence[tuple[str, Sequence[Square]]],
    columns: Sequence[str],
    label: str,
    *,
    gutter: float = 110.0,
    row_title: str = "",
    column_title: str = "",
) -> Markup:
    """A grid; names of columns that do not fit their column lean."""
    count = max(len(columns), 1)
    widest = min(max((length(name) for name in columns), default=0.0), LONGEST)
    leaning = widest > (WIDTH - gutter) / count - 4
    spill = (
        length(shortened(columns[-1], LONGEST)) * 0.8 if leaning else 0.0
    )  # what the last name needs at the right
    side = max(34.0, min((WIDTH - gutter) / count, (WIDTH - gutter - spill) / (count - 0.5)))
    top = (widest * 0.62 + 14 if leaning else 16.0) + (16.0 if column_title else 0.0)
    width = max(WIDTH, gutter + side * count, gutter + side * (count - 0.5) + spill)
    drawn = []
    if column_title:
        drawn.append(
            words(
                gutter + side * len(columns) / 2,
                12.0,
                column_title,
                class_="title",
                anchor="middle",
            )
        )
    for index, name in enumerate(columns):
        x = gutter + side * (index + 0.5)
        turn = f"rotate(-38 {number(x)} {number(top - 5)})" if leaning else None
        anchor = "start" if leaning else "middle"
        drawn.append(
            words(
                x, top - 5, shortened(name, LONGEST), class_="tick", anchor=anchor, transform=turn
            )
        )
    for place, (name, squares) in enumerate(rows):
        y = top + place * 26
        drawn.append(words(0.0, y + 17, shortened(name, gutter - 4), class_="label"))
        drawn += [
            _square(square, gutter + side * index, y, side) for index, square in enumerate(squares)
        ]
    if row_title:
        drawn.append(words(0.0, top - 5, row_title, class_="title"))
    return chart(width, top + 26 * len(rows) + 4, label, *drawn)


def _square(square: Square, x: float, y: float, side: float) -> Markup:
    if square.shade is None:
        return words(x + side / 2, y + 17, square.text, class_="muted", anchor="middle")
    shade = min(max(square.shade, 0.0), 1.0)
    opacity = f"{0.06 + 0.9 * shade:.3f}"
    rect = element(
        "rect",
        element("title", square.hint),
        x=x + 1,
        y=y + 1,
        width=side - 2,
        height=24.0,
        rx=2,
        class_="heat",
        fill_opacity=opacity,
    )
    text = words(
        x + side / 2,
        y + 17,
        square.text,
        class_="cell on" if shade > DARK else "cell",
        anchor="middle",
    )
    return rect + text
