"""Document metadata, from the columns that public data sets have beside the text."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from specs.spec import SCORE_LEVELS

Row = Mapping[str, Any]  # a row of a source, by the names of its columns
# The columns that may name the crawl, in order of preference. FineWeb has `dump`, C4 `timestamp`.
CRAWL = ("crawl", "dump", "date", "timestamp")
# Dolma and RedPajama keep all columns but the text in one of these.
NESTED = ("metadata", "meta")
# The columns of one line of text, and the names that data sets have for each.
LINES = {"url": ("url",), "crawl": CRAWL, "title": ("title",), "license": ("license",)}
METADATA_COLUMNS = (*LINES, *CRAWL, *NESTED, "label", "hazard")
HAZARD = re.compile(r"[a-z][a-z0-9_]*")


def row_metadata(row: Row) -> dict[str, Any]:
    """Return the metadata columns of specs/document.py that a row can fill; None for the others."""
    # The columns of the row itself come first.
    rows = [row]
    for name in NESTED:
        inner = row.get(name)
        if isinstance(inner, Mapping):
            rows.append(inner)
    values: dict[str, Any] = {}
    for name, columns in LINES.items():
        values[name] = _first_line(rows, columns)
    values["label"] = _label(row.get("label"))
    values["hazard"] = _hazard(row.get("hazard"))
    return values


def _first_line(rows: Iterable[Row], names: Iterable[str]) -> str | None:
    """Return the first value that is a line of printable text."""
    for row in rows:
        for name in names:
            value = row.get(name)
            if not isinstance(value, str):
                continue
            # Titles on the web are full of line breaks and tabs.
            line = value if value.isprintable() else " ".join(value.split())
            if line and line.isprintable():
                return line
    return None


def _label(value: Any) -> int | None:
    """Return a value that is a safety score, or None."""
    # Columns with nulls have floats, 3.0 for 3. The type is compared because True is an int.
    is_score = type(value) in (int, float) and value in range(SCORE_LEVELS)
    return int(value) if is_score else None


def _hazard(value: Any) -> str | None:
    return value if isinstance(value, str) and HAZARD.fullmatch(value) else None
