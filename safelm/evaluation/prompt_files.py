"""Rows of public benchmark files, in the formats in which they are published."""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

Row = Mapping[str, Any]
Columns = dict[str, Sequence[Any]]
# (location for messages, row)
Rows = Iterator[tuple[str, Row]]
# The column of a plain list of texts.
TEXT = "text"
# The column for the first key above a text in a tree of lists.
TOPIC = "topic"
# Characters of a CSV field, at most; Python's own limit is 131,072.
MAX_FIELD = 1 << 24
# A cell of a TSV file that is quoted as in CSV.
QUOTED_CELL = re.compile(r'(?:^|\t)"(?:[^"\t]|"")*+"(?=\t|\r?$)', re.MULTILINE)


class PromptFileError(ValueError):
    """A file of prompts is missing, broken or not the pinned one; the message says what to do."""


def read_rows(path: Path, columns: Sequence[str]) -> Rows:
    """Read every row of a .csv, .tsv, .json, .jsonl, .parquet or .txt file, also gzipped.

    A JSON object is a table of columns if it has one of `columns`, and otherwise a tree of topics:
    nothing else tells them apart.

    Raises:
        PromptFileError: if a row cannot be read.
    """
    name = path.name.removesuffix(".gz")
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        data = _decompressed(path, data)
    if name.endswith(".parquet"):
        return _parquet(path, data)
    try:
        # utf-8-sig drops the byte order mark that spreadsheets write.
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptFileError(
            f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error
    if name.endswith(".json"):
        return _jsonl(path, text) if _is_jsonl(text) else _json(path, text, columns)
    suffix = name[name.rfind(".") :]
    return READERS[suffix](path, text)


def _decompressed(path: Path, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise PromptFileError(
            f"{path}: is not a whole gzip file ({error}); fetch it again"
        ) from error


def _csv(path: Path, text: str) -> Rows:
    """Read CSV (RFC 4180), in which quotes around a field are not part of it.

    In some countries, spreadsheets separate fields by semicolons or tabs. Then the first line has
    no comma.
    """
    head = text.partition("\n")[0]
    delimiter = next((mark for mark in ",;\t" if mark in head), ",")
    return _delimited(path, text, delimiter, is_quoted=True)


def _tsv(path: Path, text: str) -> Rows:
    """Read TSV. IANA's text/tab-separated-values has no quotes, but many programs write them."""
    return _delimited(path, text, "\t", is_quoted=not _are_quotes_letters(text))


def _are_quotes_letters(text: str) -> bool:
    """Return whether quotes are text: no cell is quoted, and all rows have as many cells."""
    if QUOTED_CELL.search(text):
        return False
    reader = csv.reader(_stream(text), delimiter="\t", quoting=csv.QUOTE_NONE)
    try:
        widths = {len(row) for row in reader if row}
    except csv.Error:
        return False
    return len(widths) == 1


def _delimited(path: Path, text: str, delimiter: str, *, is_quoted: bool) -> Rows:
    reader = csv.DictReader(
        _stream(text),
        restval="",
        delimiter=delimiter,
        quoting=csv.QUOTE_MINIMAL if is_quoted else csv.QUOTE_NONE,
        strict=True,
    )
    start = 1  # the line on which the row begins; a quoted field may span lines
    try:
        fields = len(reader.fieldnames or [])
        start = reader.line_num + 1
        for row in reader:
            if None in row:
                count = fields + len(row[None])
                raise PromptFileError(
                    f"{path}:{reader.line_num}: expected {fields} fields, as the first line has "
                    f"(got {count}); put in quotes what holds {delimiter!r}"
                )
            yield f"{path}:{reader.line_num}", row
            start = reader.line_num + 1
    except csv.Error as error:
        advice = "close every quote that opens a field, and double one inside of it"
        raise PromptFileError(
            f"{path}:{start}: the row that begins here is not CSV ({error}); {advice}"
        ) from error


def _stream(text: str) -> io.StringIO:
    csv.field_size_limit(MAX_FIELD)
    return io.StringIO(text, newline="")


def _text_lines(path: Path, text: str) -> Rows:
    for place, line in _numbered(path, text):
        yield place, {TEXT: line.strip()}


def _jsonl(path: Path, text: str) -> Rows:
    for place, line in _numbered(path, text):
        yield place, _object(place, _parsed(place, line, "a line of JSON"))


def _numbered(path: Path, text: str) -> Iterator[tuple[str, str]]:
    """Yield the lines that are not blank, each with its location."""
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", line


def _is_jsonl(text: str) -> bool:
    """Return whether a .json file holds an object a line, as many that are published do."""
    line, _, rest = text.lstrip().partition("\n")
    try:
        return bool(rest.strip()) and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _json(path: Path, text: str, names: Sequence[str]) -> Rows:
    """Read a list of rows or texts, a table of columns, or a tree of lists (topic, subtopic)."""
    values = _parsed(str(path), text, "JSON")
    if isinstance(values, dict):
        columns = _columns(values, names)
        yield from _table(path, columns) if columns else _tree(path, values, ())
    elif isinstance(values, list):
        for index, value in enumerate(values):
            place = f"{path} item {index}"
            yield place, _row(place, value)
    else:
        raise PromptFileError(f"{path}: expected a list of prompts (got {type(values).__name__})")


def _table(path: Path, columns: Columns) -> Rows:
    lengths = {name: len(column) for name, column in columns.items()}
    if len(set(lengths.values())) > 1:
        raise PromptFileError(f"{path}: expected columns of one length (got {lengths})")
    for index, cells in enumerate(zip(*columns.values(), strict=True)):
        yield f"{path} row {index}", dict(zip(columns, cells, strict=True))


def _columns(values: Row, names: Sequence[str]) -> Columns | None:
    """Return the columns of a table, or None if it is something else.

    A column is a list or, as pandas writes it, an object with the number of each row.
    """
    if not has_column(values, names):
        return None
    if all(isinstance(cells, list) for cells in values.values()):
        return dict(values)
    first, *_ = values.values()
    columns: Columns = {}
    for name, cells in values.items():
        is_numbered = isinstance(cells, dict) and all(number.isdigit() for number in cells)
        if not is_numbered or cells.keys() != first.keys():
            return None
        columns[name] = [cells[number] for number in first]
    return columns


def _tree(path: Path, values: Any, keys: tuple[str, ...]) -> Rows:
    place = f"{path} {' / '.join(keys)}"
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _tree(path, value, (*keys, str(key)))
    elif isinstance(values, list):
        for index, value in enumerate(values):
            item = f"{place} item {index}"
            yield item, {TOPIC: keys[0], **_row(item, value)}
    else:
        got = type(values).__name__
        raise PromptFileError(f"{place}: expected a list of prompts (got {got})")


def _parquet(path: Path, data: bytes) -> Rows:
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        # Without threads, which can abort the process as Python ends (apache/arrow#34314).
        rows = file.read(use_threads=False).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PromptFileError(
            f"{path}: is not a whole Parquet file ({error}); fetch it again"
        ) from error
    return ((f"{path} row {index}", row) for index, row in enumerate(rows))


def _parsed(place: str, text: str, expected: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptFileError(f"{place}: expected {expected} ({error})") from error


def _row(place: str, value: Any) -> Row:
    return {TEXT: value} if isinstance(value, str) else _object(place, value)


def _object(place: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise PromptFileError(f"{place}: expected a JSON object (got {type(value).__name__})")
    return value


READERS = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".txt": _text_lines}


def first_value(row: Row, names: Iterable[str]) -> Any:
    """Return the value of the first of some columns that is filled.

    If none is filled, return an empty value or None. Case, spaces and underscores of names do not
    count; `instances.0.input` names a value inside another.
    """
    found = [_cell(row, name) for name in names]
    present = [value for value in found if value is not None]
    filled = [value for value in present if is_filled(value)]
    return next(iter(filled or present), None)


def has_column(row: Row, names: Iterable[str]) -> bool:
    """Return whether a row has one of some columns, even an empty one."""
    columns = {_plain(column) for column in row}
    for name in names:
        if _plain(name) in columns or _inside(row, name.split(".")) is not None:
            return True
    return False


def is_filled(value: Any) -> bool:
    """Return whether a cell has a value that is neither None nor blank."""
    if isinstance(value, str):
        return bool(value.strip())
    return value is not None


def _cell(row: Row, name: str) -> Any:
    columns = {_plain(column): column for column in row}
    column = columns.get(_plain(name))
    if column is not None:
        return row[column]
    return _inside(row, name.split("."))


def _plain(name: object) -> str:
    return str(name).casefold().replace("_", "").replace(" ", "")


def _inside(value: Any, parts: Sequence[str]) -> Any:
    """Return the value at a path of keys and indices, or None."""
    for part in parts:
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return None
    return value
