"""Measurements: rows of `measurements.parquet`, each one number (see specs/document.py)."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelm.builder.shards import Shard, write_table
from safelm.stats.ranking import Auroc
from safelm.stats.rates import DIGITS
from specs.document import MEASUREMENTS

MEASUREMENTS_FILE = "measurements.parquet"


@dataclass(frozen=True)
class Measurement:
    """A row of MEASUREMENTS. Columns that do not apply to a metric are None."""

    metric: str
    count: int | None = None
    of: int | None = None
    value: float | None = None
    low: float | None = None
    high: float | None = None
    model: str | None = None
    stage: str | None = None
    checkpoint: int | None = None
    decoder: str | None = None
    suite: str | None = None
    suite_kind: str | None = None
    judge: str | None = None
    judge_kind: str | None = None
    is_first_judge: bool | None = None
    form: str | None = None
    row: str | None = None
    condition: str | None = None
    words: int | None = None
    bin_edge: float | None = None
    layer: int | None = None


def share(metric: str, count: int, of: int, **columns: Any) -> Measurement:
    """Return the share `count` / `of` as a row; its value is None if `of` is 0."""
    # Rounded, because the last bits differ between mathematics libraries.
    value = round(count / of, DIGITS) if of else None
    return Measurement(metric, count, of, value, **columns)


def number(metric: str, value: float | None, **columns: Any) -> Measurement:
    """Return any other number as a row, rounded; None if it could not be measured."""
    if value is not None:
        value = round(value, DIGITS)
    return Measurement(metric, value=value, **columns)


def area(metric: str, found: Auroc | None, **columns: Any) -> Measurement:
    """Return an area under the ROC curve as a row: `count` of `of` pages are unsafe."""
    if found is None:
        return Measurement(metric, **columns)
    return Measurement(
        metric,
        count=found.unsafe,
        of=found.unsafe + found.safe,
        value=round(found.value, DIGITS),
        low=round(found.low, DIGITS),
        high=round(found.high, DIGITS),
        **columns,
    )


def write_measurements(rows: Iterable[Measurement], path: Path) -> None:
    """Write rows as Parquet in their order."""
    write_table([vars(row) for row in rows], MEASUREMENTS, path)


def read_measurements(part: Shard) -> list[Measurement]:
    """Read the rows of a part of an output."""
    return [Measurement(**row) for row in part.table().to_pylist()]


def pivot(
    rows: Iterable[Measurement], *columns: str
) -> dict[tuple[Any, ...], dict[str, Measurement]]:
    """Group rows by some columns, in the order of first rows; a group maps metric to row."""
    groups: dict[tuple[Any, ...], dict[str, Measurement]] = {}
    for row in rows:
        key = tuple(getattr(row, column) for column in columns)
        groups.setdefault(key, {})[row.metric] = row
    return groups
