"""Heat maps: grids whose cells show their value as text and as strength of colour."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from safelm.report.charts.svg import MAX_NAME, WIDTH, draw, shortened, text_width


@dataclass(frozen=True)
class Square:
    """A cell: its text, the strength of its colour (0 to 1, or None for no value) and its hint."""

    text: str
    strength: float | None
    hint: str


@dataclass(frozen=True)
class Grid:
    """The measures of a heat map; names that are wider than their column are drawn at an angle."""

    rows: Sequence[tuple[str, Sequence[Square]]]
    columns: Sequence[str]
    gutter: float
    title: str

    @property
    def count(self) -> int:
        """The number of columns, at least one."""
        return max(len(self.columns), 1)

    @property
    def widest(self) -> float:
        """The width of the widest name of a column."""
        return min(max(map(text_width, self.columns), default=0.0), MAX_NAME)

    @property
    def is_angled(self) -> bool:
        """Whether some name is wider than its column."""
        return self.widest > (WIDTH - self.gutter) / self.count - 4

    @property
    def overhang(self) -> float:
        """The width that the last name at an angle needs at the right."""
        if not self.is_angled:
            return 0.0
        return text_width(shortened(self.columns[-1], MAX_NAME)) * 0.8

    @property
    def side(self) -> float:
        """The width of a column."""
        width = WIDTH - self.gutter
        return max(34.0, min(width / self.count, (width - self.overhang) / (self.count - 0.5)))

    @property
    def top(self) -> float:
        """The height of the names of columns and their title."""
        names = self.widest * 0.62 + 14 if self.is_angled else 16.0
        return names + (16.0 if self.title else 0.0)

    @property
    def width(self) -> float:
        """The width of the whole chart."""
        names = self.centre(self.count - 1) + self.overhang
        return max(WIDTH, self.gutter + self.side * self.count, names)

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
    return draw("heat_map", Grid(rows, columns, gutter, column_title), label)
