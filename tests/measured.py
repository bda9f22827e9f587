"""Read measurements in tests."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from safelm.evaluation.measurements import MEASUREMENTS_FILE, Measurement


def all_measured(folder: Path | str, **columns: Any) -> list[Measurement]:
    """Return the measurements of an output that have these values in their columns."""
    table = pq.read_table(Path(folder) / MEASUREMENTS_FILE)
    rows = [Measurement(**row) for row in table.to_pylist()]
    return chosen(rows, **columns)


def chosen(rows: list[Measurement], **columns: Any) -> list[Measurement]:
    """Return the rows that have these values in their columns."""
    return [row for row in rows if all(getattr(row, name) == columns[name] for name in columns)]


def measured(folder: Path | str, metric: str, **columns: Any) -> Measurement:
    """Return the one measurement with these values, of all forms together unless one is given."""
    (row,) = all_measured(folder, **{"metric": metric, "form": None, **columns})
    return row
