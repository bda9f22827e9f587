"""The public files of benchmarks, in the formats that they are published in: rows of a table, each
with its place.
"""

import csv
import gzip
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

Row = Mapping[str, Any]
Rows = Iterator[tuple[str, Row]]  # (where it stands, the row)
TEXT = "text"  # what the one column of a list of texts is called
TOPIC = "topic"  # and the key under which a text stands in a tree of lists
FIELD = 1 << 24  # characters of a CSV field; Python's own limit is 131,072
QUOTED = re.compile(
    r'(?:^|\t)"(?:[^"\t]|"")*+"(?=\t|\r?$)', re.MULTILINE
)  # a cell of a TSV that is quoted as in CSV


class PromptFileError(ValueError):
    """A file of prompts is not there, is another one, or is broken; the message says where and what
    to do.
    """


def read_rows(path: Path, columns: Sequence[str]) -> Rows:
    """Every row of a file. Raises PromptFileError where one cannot be read.

    A JSON object is a table by columns where it has one of `columns`, else a tree of topics: they
    look alike."""
    name = path.name.removesuffix(".gz")
    data = path.read_bytes()
    if path.name.endswith(".gz"):
        data = _unpacked(path, data)
    if name.endswith(".parquet"):
        return _parquet(path, data)
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PromptFileError(
            f"{path}: is not UTF-8 (byte {error.start}); save it as UTF-8"
        ) from error
    if name.endswith(".json"):
        return _jsonl(path, text) if _is_jsonl(text) else _json_file(path, text, columns)
    return READERS[name[name.rfind(".") :]](path, text)


def _unpacked(path: Path, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise PromptFileError(
            f"{path}: is not a whole gzip file ({error}); fetch it again"
        ) from error


def _table(path: Path, text: str, delimiter: str, *, quoted: bool) -> Rows:
    quoting: Literal[0, 3] = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.DictReader(
        _stream(text), restval="", delimiter=delimiter, quoting=quoting, strict=True
    )
    begun = 1
    try:
        fields = len(reader.fieldnames or [])
        begun = reader.line_num + 1
        for row in reader:
            if None in row:
                raise PromptFileError(
                    f"{path}:{reader.line_num}: expected {fields} fields, as the first line has "
                    f"(got {fields + len(row[None])}); put in quotes what holds {delimiter!r}"
                )
            yield f"{path}:{reader.line_num}", row
            begun = reader.line_num + 1
    except csv.Error as error:
        advice = "a quote that opens a field closes it, and one inside of it is doubled"
        raise PromptFileError(
            f"{path}:{begun}: the row that begins here is not CSV ({error}); {advice}"
        ) from error


def _stream(text: str) -> io.StringIO:
    csv.field_size_limit(FIELD)
    return io.StringIO(text, newline="")


def _csv(path: Path, text: str) -> Rows:
    """RFC 4180: quotes at the ends of a field are no part of it.

    Spreadsheets of some countries put semicolons or tabs between fields: then no comma stands in
    the first line."""
    head = text.partition("\n")[0]
    delimiter = next((one for one in ",;\t" if one in head), ",")
    return _table(path, text, delimiter, quoted=True)


def _tsv(path: Path, text: str) -> Rows:
    """IANA's text/tab-separated-values knows no quotes; many programs write them all the same, as
    in CSV.

    They are letters like others where no cell is quoted whole and all rows then have as many cells
    as the first."""
    return _table(path, text, "\t", quoted=not _quotes_are_letters(text))


def _quotes_are_letters(text: str) -> bool:
    if QUOTED.search(text):
        return False
    try:
        return (
            len(
                {
                    len(row)
                    for row in csv.reader(_stream(text), delimiter="\t", quoting=csv.QUOTE_NONE)
                    if row
                }
            )
            == 1
        )
    except csv.Error:
        return False


def _lines(path: Path, text: str) -> Rows:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            yield f"{path}:{number}", {TEXT: line.strip()}


def _jsonl(path: Path, text: str) -> Rows:
    for number, line in enumerate(text.split("\n"), 1):
        if line.strip():
            where = f"{path}:{number}"
            yield where, _object(where, _json(where, line))


def _is_jsonl(text: str) -> bool:
    """Whether more lines follow one that is an object already: many data sets name JSON lines
    .json.
    """
    line, _, rest = text.lstrip().partition("\n")
    try:
        return bool(rest.strip()) and isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def _json_file(path: Path, text: str, names: Sequence[str]) -> Rows:
    """A list of rows or of texts, a table by columns, or a tree of lists of texts (topic, subtopic,
    texts).
    """
    values = _json(str(path), text)
    if isinstance(values, list):
        for place, value in enumerate(values):
            where = f"{path} item {place}"
            yield where, {TEXT: value} if isinstance(value, str) else _object(where, value)
    elif isinstance(values, dict) and (columns := _columns(values, names)):
        lengths = {name: len(column) for name, column in columns.items()}
        if len(set(lengths.values())) > 1:
            raise PromptFileError(f"{path}: expected columns of one length (got {lengths})")
        for place, cells in enumerate(zip(*columns.values(), strict=True)):
            yield f"{path} row {place}", dict(zip(columns, cells, strict=True))
    elif isinstance(values, dict):
        yield from _tree(path, values, ())
    else:
        raise PromptFileError(f"{path}: expected a list of prompts (got {type(values).__name__})")


def _columns(values: Mapping[str, Any], names: Sequence[str]) -> dict[str, Sequence[Any]] | None:
    """A table by columns, as lists or (pandas) by row number; None of anything else."""
    if not has_column(values, names):
        return None
    first, *_ = values.values()
    if all(
        isinstance(cells, dict) and cells.keys() == first.keys() and all(map(str.isdigit, cells))
        for cells in values.values()
    ):
        return {name: [cells[place] for place in first] for name, cells in values.items()}
    return dict(values) if all(isinstance(cells, list) for cells in values.values()) else None


def _tree(path: Path, values: Any, keys: tuple[str, ...]) -> Rows:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _tree(path, value, (*keys, str(key)))
    elif isinstance(values, list):
        for place, value in enumerate(values):
            where = f"{path} {' / '.join(keys)} item {place}"
            row = {TEXT: value} if isinstance(value, str) else _object(where, value)
            yield where, {TOPIC: keys[0], **row}
    else:
        raise PromptFileError(
            f"{path} {' / '.join(keys)}: expected a list of prompts (got {type(values).__name__})"
        )


def _parquet(path: Path, data: bytes) -> Rows:
    try:
        file = pq.ParquetFile(pa.BufferReader(data), page_checksum_verification=True)
        rows = file.read(use_threads=False).to_pylist()
    except (pa.ArrowException, OSError, ValueError) as error:
        raise PromptFileError(
            f"{path}: is not a whole Parquet file ({error}); fetch it again"
        ) from error
    return ((f"{path} row {place}", row) for place, row in enumerate(rows))


def _json(where: str, text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise PromptFileError(
            f"{where}: expected {'a line of ' if ':' in where else ''}JSON ({error})"
        ) from error


def _object(where: str, value: Any) -> Row:
    if not isinstance(value, dict):
        raise PromptFileError(f"{where}: expected a JSON object (got {type(value).__name__})")
    return value


READERS = {".csv": _csv, ".tsv": _tsv, ".jsonl": _jsonl, ".txt": _lines}


def value_of(row: Row, names: Iterable[str]) -> Any:
    """What a row has in the first of these columns that is filled; the empty value, or None, where
    none is.
    """
    found = [_cell(row, name) for name in names]
    return next(
        filter(is_filled, found), next((value for value in found if value is not None), None)
    )


def has_column(row: Row, names: Iterable[str]) -> bool:
    """Whether a row has one of these columns, if only an empty one."""
    plain = set(map(_plain, row))
    return any(_plain(name) in plain or _inside(row, name.split(".")) is not None for name in names)


def is_filled(value: Any) -> bool:
    """Whether a cell holds anything: not None, nor blanks alone."""
    return bool(value.strip()) if isinstance(value, str) else value is not None


def _cell(row: Row, name: str) -> Any:
    plain = {_plain(column): column for column in row}
    return row[plain[_plain(name)]] if _plain(name) in plain else _inside(row, name.split("."))


def _plain(name: object) -> str:
    return str(name).casefold().replace("_", "").replace(" ", "")


def _inside(value: Any, parts: Sequence[str]) -> Any:
    for part in parts:
        if isinstance(value, list) and part.isdigit() and int(part) < len(value):
            value = value[int(part)]
        elif isinstance(value, dict) and part in value:
            value = value[part]
        else:
            return None
    return value
