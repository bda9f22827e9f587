"""Heat maps: grids whose cells show their value as text and as strength of colour."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from safelm.report.charts import svg

MAX_NAME = 110.0  # names of columns are cut at this width
STRONG = 0.8  # above this strength the text in a cell changes its colour
ROW = 26.0


@dataclass(frozen=True)
class Square:
    """A cell: its text, the strength of its colour (0 to 1, or None for no value) and its hint."""

    text: str
    strength: float | None
    hint: str


@dataclass(frozen=True)
class Grid:
    """The measures of a heat map; names that are wider than their column are drawn at an angle."""

    gutter: float
    columns: Sequence[str]
    has_title: bool

    @property
    def widest(self) -> float:
        """The width of the widest name of a column."""
        return min(max(map(svg.text_width, self.columns), default=0.0), MAX_NAME)

    @property
    def is_angled(self) -> bool:
        """Whether some name is wider than its column."""
        return self.widest > (svg.WIDTH - self.gutter) / max(len(self.columns), 1) - 4

    @property
    def overhang(self) -> float:
        """The width that the last name at an angle needs at the right."""
        if not self.is_angled:
            return 0.0
        return svg.text_width(svg.shortened(self.columns[-1], MAX_NAME)) * 0.8

    @property
    def side(self) -> float:
        """The width of a column."""
        width, count = svg.WIDTH - self.gutter, max(len(self.columns), 1)
        return max(34.0, min(width / count, (width - self.overhang) / (count - 0.5)))

    @property
    def top(self) -> float:
        """The height of the names of columns and their title."""
        names = self.widest * 0.62 + 14 if self.is_angled else 16.0
        return names + (16.0 if self.has_title else 0.0)

    @property
    def width(self) -> float:
        """The width of the whole chart."""
        count = max(len(self.columns), 1)
        names = self.gutter + self.side * (count - 0.5) + self.overhang
        return max(svg.WIDTH, self.gutter + self.side * count, names)

    def centre(self, column: int) -> float:
        """Return the middle of a column."""
        return self.gutter + self.side * (column + 0.5)


def heat_map(
    rows: Sequence[tuple[str, Sequence[Square]]],
    columns: Sequence[str],
    label: str,
    *,
    gutter: float = 110.0,
    column_title: str = "",
) -> Markup:
    """Draw a grid with a name for each row and column."""
    grid = Grid(gutter, columns, bool(column_title))
    drawn = [_column(grid, index, name) for index, name in enumerate(columns)]
    if column_title:
        middle = gutter + grid.side * len(columns) / 2
        drawn.append(svg.text(middle, 12.0, column_title, class_="title", anchor="middle"))
    for index, (name, squares) in enumerate(rows):
        y = grid.top + index * ROW
        drawn.append(svg.text(0.0, y + 17, svg.shortened(name, gutter - 4), class_="label"))
        drawn += [_square(square, grid, column, y) for column, square in enumerate(squares)]
    return svg.chart(grid.width, grid.top + ROW * len(rows) + 4, label, *drawn)


def _column(grid: Grid, index: int, name: str) -> Markup:
    x, y = grid.centre(index), grid.top - 5
    name = svg.shortened(name, MAX_NAME)
    if not grid.is_angled:
        return svg.text(x, y, name, class_="tick", anchor="middle")
    turn = f"rotate(-38 {svg.number(x)} {svg.number(y)})"
    return svg.text(x, y, name, class_="tick", anchor="start", transform=turn)


def _square(square: Square, grid: Grid, column: int, y: float) -> Markup:
    x = grid.centre(column)
    if square.strength is None:
        return svg.text(x, y + 17, square.text, class_="muted", anchor="middle")
    strength = min(max(square.strength, 0.0), 1.0)
    rect = svg.element(
        "rect",
        svg.element("title", square.hint),
        x=x - grid.side / 2 + 1,
        y=y + 1,
        width=grid.side - 2,
        height=ROW - 2,
        rx=2,
        class_="heat",
        fill_opacity=f"{0.06 + 0.9 * strength:.3f}",
    )
    class_ = "cell on" if strength > STRONG else "cell"
    return rect + svg.text(x, y + 17, square.text, class_=class_, anchor="middle")
