"""The parts of a page: figures with charts, and tables that state the charts' numbers.

Their words and layout are those of figures.yaml and tables.yaml.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from markupsafe import Markup

from safelm.report.charts.numbers import NONE, interval, percent, readable
from safelm.report.measured import BEST_LAYER, Number
from safelm.stats.rates import Rate

GUTTER = 84.0  # the column of names at the left of a chart
FIGURES = Path(__file__).with_name("figures.yaml")
TABLES = Path(__file__).with_name("tables.yaml")
# Colours and patterns of page.css; a ninth decoder or model repeats the first.
STYLES = ("s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8")


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    small: str = ""  # smaller lines below the text
    verdict: str = ""  # of which it has the colour


Legend = Sequence[tuple[str, str]]  # style and meaning of colours and patterns
Row = Mapping[Any, Any]  # column: a value that `as_cell` knows


@dataclass(frozen=True)
class Table:
    """A table; the first `heads` cells of a row are its heading."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    heads: int


@dataclass(frozen=True)
class Panel:
    """A chart with its heading."""

    title: str
    chart: Markup


@dataclass(frozen=True)
class Layout:
    """A row of figures.yaml, which explains these fields."""

    section: str
    title: str
    caption: str
    drawn_by: str
    needs: str = ""
    chart: str = ""
    panel: Sequence[str] = ()
    heading: str = "{stage}"
    rows: Sequence[str] = ()
    label: str = "decoder"
    series: str = "decoder"
    parts: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    legend: Legend = ()
    at: str = ""
    across: str = ""
    upwards: str = ""
    paper: str = ""
    made_by: Sequence[str] = ()
    gutter: float = GUTTER


@dataclass(frozen=True)
class Figure(Layout):
    """A row of figures.yaml with its charts side by side, and their numbers as tables."""

    id: str = ""
    panels: Sequence[Panel] = ()
    tables: Sequence[Table] = ()


def figure(
    name: str,
    panels: Sequence[Panel] = (),
    tables: Iterable[Table] = (),
    *,
    legend: Legend = (),
    id: str = "",
    **words: Any,
) -> Figure:
    """Build a figure with a row of figures.yaml, whose name is its id unless another is given.

    Tables without rows are left out; `words` fill the braces of the row.
    """
    layout = layout_of(name, **words)
    row = {**vars(layout), "legend": legend or layout.legend}
    shown = [table for table in tables if table.rows]
    return Figure(**row, id=id or name, panels=panels, tables=shown)


def table(
    id: str, rows: Iterable[Row], columns: Mapping[Any, str] | None = None, **words: Any
) -> Table:
    """Build a table that tables.yaml describes: its columns are looked up in each row.

    A dash stands for what a row lacks. `columns` has the headings where tables.yaml has none, and
    `words` fill the braces of the caption.
    """
    layout = table_layout(id)
    heads = layout["index"] | (columns or layout.get("columns", {}))
    forms = dict.fromkeys(layout.get("percent", ()), "percent")
    digits = f".{layout.get('digits', 3)}f"
    cells = []
    for row in rows:
        cells.append([as_cell(row.get(key), forms.get(key, digits)) for key in heads])
    return Table(layout["caption"].format(**words), [*heads.values()], cells, len(layout["index"]))


def table_layout(id: str) -> dict[str, Any]:
    """Return a row of tables.yaml, which explains its keys."""
    return read_yaml(TABLES)[id]


def names_of(column: str) -> dict[str, str]:
    """Return how tables.yaml writes the values of a column."""
    return table_layout("words")["names"].get(column, {})


def name_of(column: str, value: Any) -> str:
    """Write the value of a column as people do."""
    words = table_layout("words")
    if value is None:
        return words["nulls"].get(column, NONE)
    if column in words["formats"]:
        return words["formats"][column].format(value)
    return names_of(column).get(value) or readable(str(value))


def chart_label(kind: str, title: str) -> str:
    """Describe a chart for screen readers, which find the numbers in the table."""
    return f"{kind.capitalize()}: {title}; the numbers are in the table below."


def as_cell(value: Any, form: str) -> Cell:
    """Turn a value into a cell: text as it stands, numbers with their interval.

    Mappings are estimates of JSON files: a value with `low` and `high`.
    """
    if isinstance(value, Cell):
        return value
    if isinstance(value, Number):
        return number_cell(value, form)
    if isinstance(value, Rate):
        return rate_cell(value)
    if isinstance(value, Mapping):
        bounds = f"[{value['low'] * 100:.1f}, {value['high'] * 100:.1f}]"
        return Cell(percent(value["value"]), bounds)
    if isinstance(value, float):
        return Cell(percent(value) if form == "percent" else format(value, form).replace("-", "−"))
    if isinstance(value, int):
        return Cell(f"{value:,}")
    return Cell(NONE if value is None else value)


def number_cell(number: Number, form: str) -> Cell:
    """Show an area under a curve with three decimals, a rate in percent, others as they are."""
    rate = number.rate
    if number.metric == BEST_LAYER:
        return Cell(f"{rate.value:.3g}")
    if rate.value is not None and not rate.of:
        return as_cell(rate.value, form)
    if "auroc" in number.metric and rate.value is not None:
        return Cell(f"{rate.value:.3f}", f"[{rate.low:.3f}, {rate.high:.3f}]")
    return rate_cell(rate, number.paper)


def rate_cell(rate: Rate, paper: float | None = None) -> Cell:
    """Show a rate in percent, and below it the interval, count, seeds and the paper's value."""
    lines = []
    if rate.value is not None:
        lines.append(f"{interval(rate)} {rate.count:,}/{rate.of:,}".lstrip())
    if rate.seeds:
        seeds = (f"{seed * 100:.1f}" for seed in rate.seeds)
        lines.append(f"seeds {', '.join(seeds)}")
    if paper is not None:
        lines.append(f"paper {percent(paper)}")
    return Cell(percent(rate.value), "\n".join(lines))


def share_cell(count: int, of: int) -> Cell:
    """Show a count, and below it its share in percent."""
    return Cell(f"{count:,}", percent(count / of) if of else "")


def layout_of(id: str, **words: Any) -> Layout:
    """Read a row of figures.yaml; `words` fill the braces of its text."""
    row = read_yaml(FIGURES)[id]
    # The heading is filled for each panel.
    texts = {name: row.get(name, "").format(**words) for name in ("title", "caption", "across")}
    return Layout(**row | texts)


@cache
def read_yaml(path: Path) -> dict[str, Any]:
    """Read a file of the report."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))
