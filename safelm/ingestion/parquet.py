"""The reader of Parquet files; damage costs a row group, not the file."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from safelm.builder.blocks import Documents
from safelm.ingestion.base import Origin, ReadFiles
from safelm.ingestion.decompress import DAMAGED, FLOOR
from safelm.ingestion.errors import SourceError, UnreadableFile
from safelm.ingestion.metadata import METADATA_COLUMNS, NESTED, Row

# Rows in memory at a time. With a dictionary, a few bytes can stand for long texts.
BATCH = 128
DICTIONARY_BATCH = 16
# A batch of more bytes is turned into Python objects row by row.
LARGE = 1 << 25
# The exceptions that Arrow raises for damaged bytes.
ERRORS = (pa.ArrowException, OSError, EOFError, ValueError, OverflowError)


class ReadParquet(ReadFiles):
    """Read one document a row; an offset is the number of the row, from 0.

    Only the columns that a document can have are read. Dropped: only_special_tokens. Quarantined:
    no_text, no_prompt, not_utf8, document_too_long, damaged or encrypted (the rows of a row group,
    or a whole file as one row), expansion (all that is beyond the limit, as one row).
    """

    name = "parquet"

    def documents(self, path: Path, name: str) -> Documents:
        """Yield the document of every row, row group by row group."""
        try:
            # Without page check sums, many flipped bits only give other values.
            file = pq.ParquetFile(path, page_checksum_verification=True)
            groups = self._rows_of_groups(file, path)
            schema = file.schema_arrow
        except ERRORS as error:
            raise UnreadableFile(_fault(error)) from error
        with file:
            columns = self._columns(schema, name)
            first = 0
            for group, rows in enumerate(groups):
                yield from self._row_group(file, group, columns, name, range(first, first + rows))
                if self.bytes_left < 0:
                    # The row that exceeded the limit stands for all that follow.
                    return
                first += rows

    def _rows_of_groups(self, file: pq.ParquetFile, path: Path) -> list[int]:
        """Return the rows of every row group.

        Raises UnreadableFile for a bomb, or if the footer contradicts itself.
        """
        metadata = file.metadata
        groups = [metadata.row_group(index) for index in range(metadata.num_row_groups)]
        self.bytes_left = max(FLOOR, self.max_expansion_ratio * path.stat().st_size)
        if sum(group.total_byte_size for group in groups) > self.bytes_left:
            raise UnreadableFile("expansion")
        rows = [group.num_rows for group in groups]
        if sum(rows) != metadata.num_rows or min(rows, default=0) < 0:
            raise UnreadableFile(DAMAGED)
        return rows

    def _columns(self, schema: pa.Schema, name: str) -> list[str]:
        """Return the columns to read.

        Raises SourceError unless the text and the prompt are columns of strings.
        """
        columns = self.choose_columns(name, schema.names)
        for key, column in self.required_columns.items():
            kind = schema.field(column).type
            if not _is_string(kind):
                raise SourceError(
                    f"{name}: expected strings in column {column!r} (got {kind}); correct `{key}`"
                )
        read = []
        for column in columns:
            is_text = column in self.text_columns
            read += [column] if is_text else _fields_read(schema.field(column))
        return read

    def _row_group(
        self, file: pq.ParquetFile, group: int, columns: list[str], name: str, numbers: range
    ) -> Documents:
        """Yield the documents of one row group, and quarantine the rows that cannot be read.

        Where another column is damaged, the text and the prompt are read alone.
        """
        done = 0
        required = [column for column in columns if column in self.required_columns.values()]
        for chosen in (columns, required):
            rows = self._rows(file, group, chosen)
            # Damaged bytes can give more rows than the footer promises.
            for row in islice(rows, done, len(numbers)):
                origin = Origin(name, numbers[done])
                self.bytes_left -= len((row or {}).get(self.text) or "")
                if self.bytes_left < 0:
                    self.quarantine_row("expansion", origin)
                    return
                if row is None:
                    self.quarantine_row("not_utf8", origin)
                else:
                    yield from self.make_document(row, origin)
                done += 1
            if done == len(numbers):
                return
            self.stat_update("row groups with a damaged column")
        for number in numbers[done:]:
            self.quarantine_row(self.fault, Origin(name, number))

    def _rows(self, file: pq.ParquetFile, group: int, columns: list[str]) -> Iterator[Row | None]:
        """Yield the rows of a row group up to its damage, whose name goes into `fault`."""
        self.fault = DAMAGED
        if not columns:
            return
        try:
            # Arrow ends the process when asked for the dictionary of an encrypted column. To read
            # a row of it is an error.
            next(file.iter_batches(1, row_groups=[group], columns=columns), None)
            size = DICTIONARY_BATCH if _has_dictionary(file, group, columns) else BATCH
            for batch in file.iter_batches(size, row_groups=[group], columns=columns):
                yield from _as_rows(_dates_as_text(batch), self.text_columns)
        except ERRORS as error:
            self.fault = _fault(error)


def _fault(error: Exception) -> str:
    """Return the reason for an error of Arrow, which names what is encrypted in its message."""
    return "encrypted" if "crypt" in str(error) else DAMAGED


def _fields_read(column: pa.Field) -> list[str]:
    """Return what to read of a column beside the text: no lists, and few fields of a struct.

    One row of a list may take more memory than a shard does.
    """
    kind = column.type
    if not pa.types.is_nested(kind):
        return [column.name]
    if column.name not in NESTED:
        return []
    if pa.types.is_struct(kind):
        known = [name for name in METADATA_COLUMNS if kind.get_field_index(name) >= 0]
        return [f"{column.name}.{name}" for name in dict.fromkeys(known)]
    return [column.name] if pa.types.is_map(kind) else []


def _is_string(kind: pa.DataType) -> bool:
    if pa.types.is_dictionary(kind):
        kind = kind.value_type
    tests = pa.types.is_string, pa.types.is_large_string, pa.types.is_string_view
    return any(test(kind) for test in tests)


def _dates_as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Turn dates and times into text, because a date may name the crawl."""
    # Arrow converts them: Python has neither nanoseconds nor the year 10,000.
    for number, column in enumerate(batch.schema):
        if pa.types.is_temporal(column.type):
            try:
                text = batch.column(number).cast(pa.string())
            except pa.ArrowException:
                text = pa.nulls(batch.num_rows, pa.string())
            batch = batch.set_column(number, column.name, text)
    return batch


def _has_dictionary(file: pq.ParquetFile, group: int, columns: list[str]) -> bool:
    """Return whether a few bytes may stand for long texts, which makes a batch large."""
    metadata = file.metadata.row_group(group)
    names = {column.partition(".")[0] for column in columns}
    for number in range(metadata.num_columns):
        if file.schema.column(number).path.partition(".")[0] in names:
            chunk = metadata.column(number)
            if chunk.has_dictionary_page and chunk.total_uncompressed_size > FLOOR:
                return True
    return False


def _as_rows(batch: pa.RecordBatch, needed: tuple[str, ...]) -> Iterable[Row | None]:
    """Return the rows of a batch; None for one whose text is not UTF-8."""
    if batch.nbytes <= LARGE:
        try:
            return batch.to_pylist(maps_as_pydicts="lossy")
        except (ValueError, OverflowError):
            # Arrow does not check UTF-8 when it reads. One bad value must not cost the batch.
            pass
    return (_row(batch.slice(number, 1), needed) for number in range(batch.num_rows))


def _row(batch: pa.RecordBatch, needed: tuple[str, ...]) -> Row | None:
    row: dict[str, Any] = {}
    for name in batch.schema.names:
        try:
            row |= batch.select([name]).to_pylist(maps_as_pydicts="lossy")[0]
        except (ValueError, OverflowError):
            if name in needed:
                return None
            # Not None: the value is there, but is counted as unusable.
            row[name] = b""
    return row
