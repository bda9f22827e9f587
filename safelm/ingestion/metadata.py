"""Document metadata, from the columns that public data sets have beside the text."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from specs.spec import SCORE_LEVELS

# FineWeb's crawl is `dump`, C4's is `timestamp`; the first of these that a row has is taken.
CRAWL = ("crawl", "dump", "date", "timestamp")
# Dolma and RedPajama keep what is not text in one of these.
NESTED = ("metadata", "meta")
# Columns with a line of text, by those that a row may have for them.
LINES = {"url": ("url",), "crawl": CRAWL, "title": ("title",), "license": ("license",)}
METADATA_COLUMNS = (*LINES, *CRAWL, *NESTED, "label", "hazard")
HAZARD = re.compile(r"[a-z][a-z0-9_]*")


def row_metadata(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the metadata columns of specs/document.py that a row can fill; None for the others."""
    rows = [row]
    for name in NESTED:
        inner = row.get(name)
        if isinstance(inner, Mapping):
            rows.append(inner)
    values: dict[str, Any] = {name: _first_line(rows, names) for name, names in LINES.items()}
    values["label"] = _label(row.get("label"))
    values["hazard"] = _hazard(row.get("hazard"))
    return values


def _first_line(rows: Iterable[Mapping[str, Any]], names: Iterable[str]) -> str | None:
    """Return the first value that is a line of printable text.

    Titles of the web are full of other white space; it becomes a space.
    """
    for row in rows:
        for name in names:
            value = row.get(name)
            if not isinstance(value, str):
                continue
            line = value if value.isprintable() else " ".join(value.split())
            if line and line.isprintable():
                return line
    return None


def _label(value: Any) -> int | None:
    """Return a known safety score; a table with gaps has 3.0 for 3, and True is no score."""
    is_score = type(value) in (int, float) and value in range(SCORE_LEVELS)
    return int(value) if is_score else None


def _hazard(value: Any) -> str | None:
    return value if isinstance(value, str) and HAZARD.fullmatch(value) else None
