"""Parquet: page check sums are verified, and a damaged row group costs that row group."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
from datatrove.data import Document

from safelm.ingestion.base import KNOWN, ReadFiles, SourceError
from safelm.ingestion.compression import UnreadableFile
from safelm.ingestion.decompress import DAMAGED, FLOOR
from safelm.ingestion.dialogue import MESSAGES

BATCH = 128  # rows that are in memory at a time
DICTIONARY_BATCH = 16  # where a dictionary can make few bytes long rows
LARGE = 1 << 25  # bytes of a batch whose rows become Python objects one at a time
ERRORS = (
    pa.ArrowException,
    OSError,
    EOFError,
    ValueError,
    OverflowError,
)  # what Arrow raises over bytes that are not what was written


@dataclass(kw_only=True, eq=False, repr=False)
class ReadParquet(ReadFiles):
    """One document a row; an offset is the number of the row, from 0. Only the columns a document
    can have are read.

    Dropped: only_special_tokens. Quarantined: no_text, no_prompt, not_utf8, document_too_long,
    damaged (the rows of a damaged row group, or a file as one row), expansion (what is beyond it is
    one row). A flipped bit is found where the file has page check sums."""

    name: ClassVar[str] = "parquet"

    def documents(self, path: Path, name: str) -> Iterator[Document]:
        """Every row of a file, row group by row group."""
        try:
            file = pq.ParquetFile(path, page_checksum_verification=True)
            groups, schema = self._rows_of_groups(file, path), file.schema_arrow
        except ERRORS as error:
            raise UnreadableFile(DAMAGED) from error
        with file:
            columns = self._columns(schema, name)
            first = 0
            for group, rows in enumerate(groups):
                yield from self._group(file, group, columns, name, first, rows)
                if self.unpacked > self.limit:
                    return  # the rest is one row
                first += rows

    def _rows_of_groups(self, file: Any, path: Path) -> list[int]:
        """The rows of every row group. Raises Unreadable for a bomb, or where the footer
        contradicts itself.
        """
        meta = file.metadata
        groups = [meta.row_group(index) for index in range(meta.num_row_groups)]
        self.unpacked, self.limit = 0, max(FLOOR, self.max_expansion_ratio * path.stat().st_size)
        if sum(group.total_byte_size for group in groups) > self.limit:
            raise UnreadableFile("expansion")
        rows = [group.num_rows for group in groups]
        if sum(rows) != meta.num_rows or min(rows, default=0) < 0:
            raise UnreadableFile(DAMAGED)
        return rows

    def _columns(self, schema: pa.Schema, name: str) -> list[str]:
        """The columns to read. Raises SourceError where the text or prompt is not a column of
        strings.
        """
        wanted = self.wanted
        for field, column in zip(
            ("text", "prompt"), () if self.prompt == MESSAGES else wanted, strict=False
        ):
            if column not in schema.names:
                there = ", ".join(schema.names)
                raise SourceError(
                    f"{name}: no column {column!r}; there are {there}; name one of them as `{field}`"
                )
            if not _is_string(schema.field(column).type):
                kind = schema.field(column).type
                raise SourceError(
                    f"{name}: expected strings in column {column!r} (got {kind}); mend `{field}`"
                )
        return [column for column in schema.names if column in wanted or column in KNOWN]

    def _group(
        self, file: Any, group: int, columns: list[str], name: str, first: int, rows: int
    ) -> Iterator[Document]:
        """The rows of one row group; those that cannot be read, each by its number, to the
        quarantine.
        """
        done = 0
        size = DICTIONARY_BATCH if _has_dictionary(file.metadata.row_group(group)) else BATCH
        batches = file.iter_batches(row_groups=[group], columns=columns, batch_size=size)
        while done < rows:
            try:
                found = _rows(_dated(next(batches)), self.wanted)
            except (*ERRORS, StopIteration):
                break
            for row in islice(found, rows - done):
                self.unpacked += len((row or {}).get(self.text) or "")
                if self.unpacked > self.limit:
                    self.refuse("expansion", name, first + done, b"")
                    return
                if row is None:
                    self.refuse("not_utf8", name, first + done, b"")
                else:
                    yield from self.keep(row, name, first + done)
                done += 1
        for number in range(first + done, first + rows):
            self.refuse(DAMAGED, name, number, b"")


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    return (
        pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)
    )


def _dated(batch: pa.RecordBatch) -> pa.RecordBatch:
    """With dates and times as text, for a crawl is named by it, and Python has neither nanoseconds
    nor year 10,000.
    """
    for number, column in enumerate(batch.schema):
        if pa.types.is_temporal(column.type):
            try:
                text = batch.column(number).cast(pa.string())
            except pa.ArrowException:
                text = pa.nulls(batch.num_rows, pa.string())
            batch = batch.set_column(number, column.name, text)
    return batch


def _has_dictionary(group: Any) -> bool:
    """Whether a few bytes may stand for a long text: a batch of rows is larger than its part of the
    file then.
    """
    chunks = [group.column(number) for number in range(group.num_columns)]
    return any(
        chunk.has_dictionary_page and chunk.total_uncompressed_size > FLOOR for chunk in chunks
    )


def _rows(batch: pa.RecordBatch, needed: tuple[str, ...]) -> Iterable[dict[str, Any] | None]:
    """The rows of a batch; None for one whose text is not UTF-8, which Arrow does not check when it
    reads.
    """
    if batch.nbytes <= LARGE:
        try:
            return batch.to_pylist(maps_as_pydicts="lossy")
        except (ValueError, OverflowError):
            pass  # one of them has what cannot be a Python object
    return (_row(batch.slice(number, 1), needed) for number in range(batch.num_rows))


def _row(batch: pa.RecordBatch, needed: tuple[str, ...]) -> dict[str, Any] | None:
    row: dict[str, Any] = {}
    for name in batch.schema.names:
        try:
            row |= batch.select([name]).to_pylist(maps_as_pydicts="lossy")[0]
        except (ValueError, OverflowError):
            if name in needed:
                return None
            row[name] = b""  # there, and of no use
    return row
