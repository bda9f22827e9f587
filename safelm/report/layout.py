"""The parts of a page: sections with figures, and tables that state the figures' numbers."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from safelm.report.charts.numbers import NONE, interval, percent
from safelm.stats.rates import Rate

CAPTIONS = Path(__file__).with_name("captions.yaml")
# Colours and patterns of page.css; a ninth decoder or model repeats the first.
STYLES = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")
STAGE_NAMES = {
    "pretrain": "Base model",
    "instruct": "After safety instruction tuning",
    "finetune": "After benign finetuning",
}


@dataclass(frozen=True)
class Cell:
    """A cell of a table.

    Args:
        text: the value.
        small: smaller lines below it.
        mark: a class of page.css.
        lines: items of a list.
    """

    text: str
    small: str = ""
    mark: str = ""
    lines: Sequence[str] = ()


Value = Cell | Rate | str | None


@dataclass(frozen=True)
class Table:
    """A table; the first `heads` cells of a row are its heading."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    heads: int = 1

    def __post_init__(self) -> None:
        """Refuse rows that do not fit the head, whose numbers would stand under wrong names."""
        if wrong := {len(row) for row in self.rows} - {len(self.head)}:
            raise ValueError(
                f"{self.caption}: expected {len(self.head)} cells in every row "
                f"(got {sorted(wrong)})"
            )

    @property
    def is_short(self) -> bool:
        """Short tables are open when the page is opened."""
        return len(self.rows) <= 14

    @property
    def is_long(self) -> bool:
        """Long tables are folded, also where no chart stands before them."""
        return len(self.rows) > 40


@dataclass(frozen=True)
class Panel:
    """A chart with its heading."""

    title: str
    chart: Markup


@dataclass(frozen=True)
class Figure:
    """Charts side by side with legend and caption, and their numbers as tables.

    Args:
        legend: (style, meaning) of the charts' colours and patterns.
        paper: the meaning of diamonds, where there are some.
    """

    id: str
    title: str
    caption: str
    panels: Sequence[Panel] = ()
    legend: Sequence[tuple[str, str]] = ()
    paper: str = ""
    tables: Sequence[Table] = ()


@dataclass(frozen=True)
class Section:
    """A heading of the page, and the paragraphs and figures under it."""

    id: str
    title: str
    figures: Sequence[Figure] = ()
    paragraphs: Sequence[str] = ()


def rate_cell(rate: Rate | None, paper: float | None = None) -> Cell:
    """Show a rate in percent, and below it the interval, count, seeds and the paper's value."""
    beside = [] if paper is None else [f"paper {percent(paper)}"]
    if rate is None or rate.value is None:
        return Cell(NONE, "\n".join(beside))
    lines = [f"{interval(rate)} {rate.count:,}/{rate.of:,}"]
    if rate.seeds:
        seeds = (f"{seed * 100:.1f}" for seed in rate.seeds)
        lines.append(f"seeds {', '.join(seeds)}")
    return Cell(percent(rate.value), "\n".join([*lines, *beside]))


def area_cell(area: Rate | None) -> Cell:
    """Show an area under a curve with its interval."""
    if area is None or area.value is None:
        return Cell(NONE)
    return Cell(f"{area.value:.3f}", f"[{area.low:.3f}, {area.high:.3f}]")


def as_cell(value: Value) -> Cell:
    """Turn a value into a cell: text as it stands, a rate with its interval, a dash for None."""
    if isinstance(value, Cell):
        return value
    return Cell(value) if isinstance(value, str) else rate_cell(value)


def table(
    caption: str, labels: Sequence[str], columns: Iterable[str], rows: Iterable[Sequence[Value]]
) -> Table:
    """Build a table whose rows begin with one cell for each of `labels`."""
    cells = [[*map(as_cell, row)] for row in rows]
    return Table(caption, [*labels, *columns], cells, heads=len(labels))


def chart_label(kind: str, what: str) -> str:
    """Describe a chart for screen readers, which find the numbers in the table."""
    return f"{kind}: {what}; the numbers are in the table below."


def figure(id: str, panels: Sequence[Panel] = (), *, text: str = "", **more: Any) -> Figure:
    """Build a figure with the title and caption of captions.yaml.

    Args:
        id: of the figure, and of its text.
        panels: the charts.
        text: the id of the text, where it is another one.
        more: `legend`, `paper` and `tables`; all else fills the braces of the text.
    """
    parts = {name: more.pop(name) for name in ("legend", "paper", "tables") if name in more}
    words = captions()[text or id]
    title, caption = (words[name].format(**more) for name in ("title", "caption"))
    return Figure(id, title, caption, panels, **parts)


@cache
def captions() -> dict[str, dict[str, str]]:
    """Read captions.yaml."""
    return yaml.safe_load(CAPTIONS.read_text(encoding="utf-8"))
