"""Malformed corpora: each file, the documents that must come out, and the reasons for the rest.

Every row is (file name, bytes, texts that come out, {reason: rows}). The first 42 are files on
which DataTrove's reader was seen to lose documents, to crash, or to pass on what is no text. The
others are mistakes that people make.
"""

import bz2
import gzip
import io
import json
import lzma
import tarfile
import zipfile
from itertools import product
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

TEXTS = [f"page {number} is about the garden" for number in range(12)]
ROWS = [
    json.dumps({"text": text, "id": str(number)}).encode() + b"\n"
    for number, text in enumerate(TEXTS)
]
OTHERS = TEXTS[:6] + TEXTS[7:]
WHOLE = b"".join(ROWS)
ZSTD = zstandard.ZstdCompressor(write_checksum=True)


class Corpus(NamedTuple):
    """A file, and the outcome of reading it."""

    name: str
    data: bytes
    texts: list[str]
    went: dict[str, int]


def amid(line: bytes, reason: str | None = None, text: str | None = None, place: int = 6) -> Corpus:
    """Put a line among good ones: it is refused for a reason, or is a document too."""
    extra = [] if text is None else [text]
    data = b"".join([*ROWS[:place], line + b"\n", *ROWS[place:]])
    return Corpus(
        "a.jsonl", data, [*TEXTS[:place], *extra, *TEXTS[place:]], {reason: 1} if reason else {}
    )


def of(**row: Any) -> bytes:
    """Write a line of JSON with a text of its own."""
    return json.dumps({"text": "another page", **row}).encode()


def flipped(data: bytes, place: int, bit: int = 4) -> bytes:
    """Flip one bit."""
    changed = bytearray(data)
    changed[place] ^= bit
    return bytes(changed)


LINES = {
    "invalid UTF-8 first": amid(b'{"text": "\xff"}', "not_utf8", place=0),
    "invalid UTF-8 in the middle": amid(b'{"text": "caf\xe9"}', "not_utf8"),
    "invalid UTF-8 last": amid(b'{"text": "\xc3"}', "not_utf8", place=12),
    "raw surrogate bytes": amid(b'{"text": "\xed\xa0\x80"}', "not_utf8"),
    "overlong UTF-8": amid(b'{"text": "\xc0\xaf"}', "not_utf8"),
    "beyond Unicode": amid(b'{"text": "\xf5\x80\x80\x80"}', "not_utf8"),
    "not JSON": amid(b"some words", "not_json"),
    "a NUL in a string": amid(b'{"text": "a\0b"}', "not_json"),
    "a line of NULs": amid(bytes(4096), "not_json"),
    "a control character": amid(b'{"text": "a\x07b"}', "not_json"),
    "NaN": amid(b'{"text": "a", "n": NaN}', text="a"),
    "Infinity": amid(b'{"text": "a", "n": Infinity}', text="a"),
    "minus Infinity": amid(b'{"text": "a", "n": -Infinity}', text="a"),
    "a depth of 1,100": amid(b'{"text": "a", "n": ' + b"[" * 1100 + b"]" * 1100 + b"}", "not_json"),
    "a depth of 100,000": amid(b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not_json"),
    "a depth that never ends": amid(b"[" * 100_000, "not_json"),
    "half a surrogate pair": amid(b'{"text": "\\ud800"}', "not_utf8"),
    "the other half": amid(b'{"text": "\\udc00 a"}', "not_utf8"),
    "two documents on a line": amid(b'{"text": "a"}{"text": "b"}', "not_json"),
    "two documents and a comma": amid(b'{"text": "a"}, {"text": "b"}', "not_json"),
    "a comma at the end": amid(b'{"text": "a"},', "not_json"),
    "a comma in the end": amid(b'{"text": "a",}', "not_json"),
    "single quotes": amid(b"{'text': 'a'}", "not_json"),
    "a comment": amid(b"// a comment", "not_json"),
    "a line that was cut": amid(b'{"text": "cut', "not_json"),
    "a bad escape": amid(b'{"text": "\\x41"}', "not_json"),
    "half an escape": amid(b'{"text": "\\u00"}', "not_json"),
    "a number with a leading zero": amid(b'{"text": "a", "n": 01}', "not_json"),
    "a list": amid(b'["text"]', "not_an_object"),
    "null": amid(b"null", "not_an_object"),
    "a number": amid(b"42", "not_an_object"),
    "a string": amid(b'"text"', "not_an_object"),
    "true": amid(b"true", "not_an_object"),
    "no text": amid(b'{"id": "a"}', "no_text"),
    "an empty object": amid(b"{}", "no_text"),
    "text in another case": amid(b'{"TEXT": "a"}', "no_text"),
    "text is null": amid(of(text=None), "no_text"),
    "text is empty": amid(of(text=""), "no_text"),
    "text is blank": amid(of(text=" \n\t\u2003"), "no_text"),
    "text is a number": amid(of(text=7), "no_text"),
    "text is a fraction": amid(of(text=7.5), "no_text"),
    "text is true": amid(of(text=True), "no_text"),
    "text is a list": amid(of(text=["a", "b"]), "no_text"),
    "text is an object": amid(of(text={"text": "a"}), "no_text"),
    "the last of two texts is null": amid(b'{"text": "a", "text": null}', "no_text"),
    "a line above the limit": amid(of(n="a" * (1 << 20)), "line_too_long"),
    "a text above the limit": amid(of(text="a" * ((1 << 19) + 1)), "document_too_long"),
    "a text above the limit in bytes": amid(
        b'{"text": "%s"}' % ("é" * 262_145).encode(), "document_too_long"
    ),
    "special tokens alone": amid(of(text="<potentially_unsafe_content>"), "only_special_tokens"),
    "an empty line": amid(b"", "blank_line"),
    "a line of blanks": amid(b" \t\r", "blank_line"),
    "two keys of one name": amid(b'{"text": "x", "text": "another page"}', text="another page"),
    "an id that was there": amid(of(id="3"), text="another page"),
    "an escaped NUL": amid(of(text="a\0b"), text="a\0b"),
    "a line separator": amid(
        json.dumps({"text": "a\u2028b\x85c"}, ensure_ascii=False).encode(), text="a\u2028b\x85c"
    ),
    "an escaped pair": amid(b'{"text": "\\ud83d\\ude00"}', text="\U0001f600"),
    "a number above 64 bits": amid(
        b'{"text": "another page", "n": 36893488147419103232}', text="another page"
    ),
    "a number of 400 digits": amid(
        b'{"text": "another page", "n": ' + b"9" * 400 + b"}", text="another page"
    ),
    "a fraction beyond floats": amid(b'{"text": "another page", "n": 1e999}', text="another page"),
    "a byte order mark in the middle": amid(b"\xef\xbb\xbf" + of(), text="another page"),
    "media is a string": amid(of(media="a"), text="another page"),
    "metadata is a string": amid(of(metadata="{}"), text="another page"),
    "metadata is a list": amid(of(metadata=[1], meta=7), text="another page"),
    "metadata is null": amid(of(metadata=None), text="another page"),
    "metadata in metadata": amid(
        of(metadata={"metadata": {"url": "u"}, "text": "x", "id": "y"}), text="another page"
    ),
    "the url is a number": amid(of(url=7, title=[], license={}), text="another page"),
    "the label is a word": amid(of(label="bad", hazard=3), text="another page"),
    "no colon before a text": amid(b'{"text" "a"}', "not_json"),
    "an empty key": amid(of(**{"": 1}), text="another page"),
    "100,000 keys": amid(of(**{f"k{number}": 1 for number in range(60_000)}), text="another page"),
}


def packed_tar() -> bytes:
    """Pack the documents into a compressed tar file, which is often called a data set."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w:gz") as tar:
        entry = tarfile.TarInfo("a.jsonl")
        entry.size = len(WHOLE)
        tar.addfile(entry, io.BytesIO(WHOLE))
    return data.getvalue()


def zipped() -> bytes:
    """Pack the documents into a zip file."""
    data = io.BytesIO()
    with zipfile.ZipFile(data, "w") as file:
        file.writestr("a.jsonl", WHOLE)
    return data.getvalue()


def wide_frame() -> bytes:
    """Write a zstd frame that asks for a window of 256 MB."""
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return stream.compress(WHOLE) + stream.flush()


def with_dictionary() -> bytes:
    """Write a zstd frame that was compressed with a dictionary."""
    samples = [f"{row!r} {number}".encode() for number, row in product(range(60), ROWS)]
    words = zstandard.train_dictionary(1024, samples)
    return zstandard.ZstdCompressor(dict_data=words).compress(WHOLE)


GZIP = gzip.compress(WHOLE, mtime=0)
FIRST, SECOND = (
    gzip.compress(b"".join(ROWS[:6]), mtime=0),
    gzip.compress(b"".join(ROWS[6:]), mtime=0),
)
FRAME = ZSTD.compress(b"".join(ROWS[:6]))
NAMED = b"\x1f\x8b\x08\x1c\0\0\0\0\0\xff\x04\0abcdname\0comment\0" + GZIP[10:]
CSV = b"id,text\n" + b"".join(
    b'%d,"%s"\n' % (number, text.encode()) for number, text in enumerate(TEXTS)
)

FILES = {
    "an empty file": Corpus("a.jsonl", b"", [], {}),
    "line feeds alone": Corpus("a.jsonl", b"\n\n\n", [], {"blank_line": 3}),
    "no last line feed": Corpus("a.jsonl", WHOLE[:-1], TEXTS, {}),
    "a last line that was cut": Corpus("a.jsonl", WHOLE[:-9], TEXTS[:-1], {"truncated": 1}),
    "NULs at the end, as a crash leaves them": Corpus(
        "a.jsonl", WHOLE + bytes(512), TEXTS, {"truncated": 1}
    ),
    "a byte order mark": Corpus("a.jsonl", b"\xef\xbb\xbf" + WHOLE, TEXTS, {}),
    "carriage returns": Corpus("a.jsonl", WHOLE.replace(b"\n", b"\r\n"), TEXTS, {}),
    "carriage returns alone": Corpus("a.jsonl", WHOLE.replace(b"\n", b"\r"), [], {"truncated": 1}),
    "line ends of both kinds": Corpus(
        "a.jsonl", ROWS[0][:-1] + b"\r\n" + WHOLE[len(ROWS[0]) :], TEXTS, {}
    ),
    "UTF-16": Corpus("a.jsonl", WHOLE.decode().encode("utf-16"), [], {"not_utf8": 13}),
    "UTF-16, big end first": Corpus(
        "a.jsonl", b"\xfe\xff" + WHOLE.decode().encode("utf-16-be"), [], {"not_utf8": 12}
    ),
    "UTF-16 without a mark": Corpus(
        "a", WHOLE.decode().encode("utf-16-le"), [], {"not_json": 12, "truncated": 1}
    ),
    "UTF-32": Corpus("a.jsonl", WHOLE.decode().encode("utf-32"), [], {"not_utf8": 13}),
    "Latin-1": Corpus("a.jsonl", WHOLE.replace(b"page", b"p\xe4ge"), [], {"not_utf8": 12}),
    "one JSON list": Corpus(
        "a.json", json.dumps([{"text": "a"}] * 12).encode(), [], {"not_an_object": 1}
    ),
    "a JSON list over lines": Corpus(
        "a.json", b'[\n {\n  "text": "a"\n }\n]', [], {"not_json": 4, "truncated": 1}
    ),
    "CSV": Corpus("a.csv", CSV, [], {"not_json": 13}),
    "TSV": Corpus("a.tsv", CSV.replace(b",", b"\t"), [], {"not_json": 13}),
    "plain text": Corpus(
        "a.txt", b"".join(text.encode() + b"\n" for text in TEXTS), [], {"not_json": 12}
    ),
    "HTML": Corpus("a.html", b"<html>\n<body>\n</body>\n</html>\n", [], {"not_json": 4}),
    "XML": Corpus("a.xml", b'<?xml version="1.0"?>\n<doc/>\n', [], {"not_json": 2}),
    "YAML": Corpus("a.yaml", b"- text: a\n- text: b\n", [], {"not_json": 2}),
    "a zip file": Corpus("a.zip", zipped(), [], {"unknown_packing": 1}),
    "bzip2": Corpus("a.jsonl.bz2", bz2.compress(WHOLE), [], {"unknown_packing": 1}),
    "xz": Corpus("a.jsonl.xz", lzma.compress(WHOLE), [], {"unknown_packing": 1}),
    "lz4": Corpus("a.jsonl.lz4", b"\x04\x22\x4d\x18" + WHOLE, [], {"unknown_packing": 1}),
    "7z": Corpus("a.7z", b"7z\xbc\xaf\x27\x1c" + WHOLE, [], {"unknown_packing": 1}),
    "gzip cut in the middle": Corpus(
        "a.gz", gzip.compress(WHOLE, mtime=0)[: len(GZIP) // 2], [], {"truncated": 1}
    ),
    "gzip without its check sum": Corpus("a.gz", GZIP[:-8], TEXTS, {"truncated": 1}),
    "gzip cut in its check sum": Corpus("a.gz", GZIP[:-3], TEXTS, {"truncated": 1}),
    "rubbish after gzip": Corpus("a.gz", GZIP + b"rubbish", TEXTS, {"damaged": 1}),
    "text that is called .gz": Corpus("a.gz", WHOLE, TEXTS, {}),
    "gzip with a bit flipped": Corpus("a.gz", flipped(GZIP, len(GZIP) // 2), [], {"damaged": 1}),
    "gzip with a wrong check sum": Corpus("a.gz", flipped(GZIP, -6), [], {"damaged": 1}),
    "gzip with a wrong size": Corpus("a.gz", flipped(GZIP, -1), [], {"damaged": 1}),
    "gzip of no bytes": Corpus("a.gz", b"", [], {"truncated": 1}),
    "gzip of nothing": Corpus("a.gz", gzip.compress(b""), [], {}),
    "two gzip members": Corpus("a.gz", FIRST + SECOND, TEXTS, {}),
    "a document over two members": Corpus(
        "a.gz", gzip.compress(WHOLE[:99]) + gzip.compress(WHOLE[99:]), TEXTS, {}
    ),
    "the second member is damaged": Corpus(
        "a.gz", FIRST + flipped(SECOND, -6), TEXTS[:6], {"damaged": 1}
    ),
    "the first member is damaged": Corpus(
        "a.gz", flipped(FIRST, -6) + SECOND, TEXTS[6:], {"damaged": 1}
    ),
    "rubbish between members": Corpus("a.gz", FIRST + b"rubbish" + SECOND, TEXTS, {"damaged": 1}),
    "an empty member between": Corpus("a.gz", FIRST + gzip.compress(b"") + SECOND, TEXTS, {}),
    "a gzip header with a name": Corpus("a.gz", NAMED, TEXTS, {}),
    "NULs after gzip": Corpus("a.gz", GZIP + bytes(512), TEXTS, {}),
    "gzip that is called .jsonl": Corpus("a.jsonl", GZIP, TEXTS, {}),
    "gzip in gzip": Corpus("a.gz", gzip.compress(GZIP), [], {"unknown_packing": 1}),
    "zstd in gzip": Corpus("a.gz", gzip.compress(ZSTD.compress(WHOLE)), [], {"unknown_packing": 1}),
    "a gzip header alone": Corpus("a.gz", GZIP[:10], [], {"truncated": 1}),
    "tar in gzip": Corpus("a.tar.gz", packed_tar(), TEXTS[1:], {"not_json": 1, "truncated": 1}),
    "zstd": Corpus("a.zst", ZSTD.compress(WHOLE), TEXTS, {}),
    "zstd cut in the middle": Corpus("a.zst", ZSTD.compress(WHOLE)[:60], [], {"truncated": 1}),
    "zstd without its check sum": Corpus(
        "a.zst", ZSTD.compress(WHOLE)[:-4], TEXTS, {"truncated": 1}
    ),
    "zstd with a wrong check sum": Corpus(
        "a.zst", flipped(ZSTD.compress(WHOLE), -1), [], {"damaged": 1}
    ),
    "zstd with a bit flipped": Corpus(
        "a.zst", flipped(ZSTD.compress(WHOLE), 60), [], {"damaged": 1}
    ),
    "zstd of no bytes": Corpus("a.zst", b"", [], {"truncated": 1}),
    "two zstd frames": Corpus(
        "a.zst", ZSTD.compress(WHOLE[:99]) + ZSTD.compress(WHOLE[99:]), TEXTS, {}
    ),
    "the second frame is damaged": Corpus(
        "a.zst", FRAME + flipped(FRAME, -1), TEXTS[:6], {"damaged": 1}
    ),
    "a zstd frame to skip": Corpus(
        "a.zst", b"\x50\x2a\x4d\x18\x02\0\0\0ab" + ZSTD.compress(WHOLE), TEXTS, {}
    ),
    "text that is called .zst": Corpus("a.zst", WHOLE, TEXTS, {}),
    "rubbish after zstd": Corpus("a.zst", ZSTD.compress(WHOLE) + b"rubbish", TEXTS, {"damaged": 1}),
    "zstd with a large window": Corpus("a.zst", wide_frame(), [], {"unknown_packing": 1}),
    "zstd with a dictionary": Corpus("a.zst", with_dictionary(), [], {"unknown_packing": 1}),
    "a bomb of gzip": Corpus("a.gz", gzip.compress(WHOLE + bytes(4 << 20)), [], {"expansion": 1}),
    "a bomb of zstd": Corpus("a.zst", ZSTD.compress(WHOLE + bytes(4 << 20)), [], {"expansion": 1}),
}


def table(group: int = 4, **columns: Any) -> bytes:
    """Write a Parquet file with checksums; `group` rows in a row group."""
    return written(pa.table({"text": TEXTS, **columns}), group)


def written(rows: pa.Table, group: int = 4, **options: Any) -> bytes:
    """Write a table as a Parquet file."""
    data = io.BytesIO()
    values = {
        "compression": "none",
        "use_dictionary": False,
        "write_page_checksum": True,
        **options,
    }
    pq.write_table(rows, data, row_group_size=group, **values)
    return data.getvalue()


def not_utf8() -> pa.Array:
    """Return strings of which the fifth is not UTF-8."""
    values = [b"\xff" if number == 4 else text.encode() for number, text in enumerate(TEXTS)]
    return pa.Array.from_buffers(pa.string(), len(values), pa.array(values, pa.binary()).buffers())


def parquet(data: bytes, texts: list[str] = TEXTS, **went: int) -> Corpus:
    """Return a Parquet file and the outcome of reading it."""
    return Corpus("a.parquet", data, texts, went)


PLAIN = table()
LONG = ["a" * 400_000 + text for text in TEXTS]
FAR = pa.array([2**60] * 12, pa.timestamp("us"))
MAPS = pa.array([[("url", "https://a")]] * 12, pa.map_(pa.string(), pa.string()))

PARQUET = {
    "as it should be": parquet(PLAIN),
    "of no bytes": parquet(b"", [], damaged=1),
    "cut": parquet(PLAIN[:-10], [], damaged=1),
    "cut at the front": parquet(PLAIN[10:], [], damaged=12),
    "the footer's length is wrong": parquet(flipped(PLAIN, -8), [], damaged=1),
    "the end is not Parquet's": parquet(PLAIN[:-1] + b"2", [], damaged=1),
    "JSON lines": parquet(WHOLE, [], damaged=1),
    "packed with gzip": parquet(gzip.compress(PLAIN), [], damaged=1),
    "a bit flipped in a page": parquet(
        flipped(PLAIN, PLAIN.index(b"page 5 is")), [*TEXTS[:4], *TEXTS[8:]], damaged=4
    ),
    "text is null": parquet(table(text=[*OTHERS[:6], None, *OTHERS[6:]]), OTHERS, no_text=1),
    "text is empty": parquet(table(text=[*OTHERS[:6], "", *OTHERS[6:]]), OTHERS, no_text=1),
    "every text is null": parquet(table(text=pa.array([None] * 12, pa.string())), [], no_text=12),
    "text is not UTF-8": parquet(table(text=not_utf8()), [*TEXTS[:4], *TEXTS[5:]], not_utf8=1),
    "text is dictionary-coded": parquet(table(text=pa.array(TEXTS).dictionary_encode())),
    "text has large offsets": parquet(table(text=pa.array(TEXTS, pa.large_string()))),
    "text is a view": parquet(table(text=pa.array(TEXTS, pa.string_view()))),
    "metadata is a struct": parquet(table(metadata=[{"url": "https://a", "n": 1}] * 12)),
    "metadata is a map": parquet(table(metadata=MAPS)),
    "metadata is a list": parquet(table(metadata=[[1, 2]] * 12)),
    "metadata is text": parquet(table(metadata=["{}"] * 12)),
    "a date beyond Python's": parquet(table(date=FAR)),
    "the date is a day": parquet(table(date=pa.array([19_000] * 12, pa.date32()))),
    "the url is a number": parquet(table(url=list(range(12)))),
    "the url is bytes": parquet(table(url=[b"\xff"] * 12)),
    "the label is a fraction": parquet(table(label=[1.5] * 12)),
    "no rows": parquet(written(pa.table({"text": pa.array([], pa.string())})), []),
    "other columns that are nested": parquet(table(other=[[{"a": [1]}]] * 12)),
    "packed with zstd": parquet(written(pa.table({"text": TEXTS}), compression="zstd")),
    "packed with snappy": parquet(written(pa.table({"text": TEXTS}), compression="snappy")),
    "packed with gzip inside": parquet(written(pa.table({"text": TEXTS}), compression="gzip")),
    "packed with brotli": parquet(written(pa.table({"text": TEXTS}), compression="brotli")),
    "packed with lz4": parquet(written(pa.table({"text": TEXTS}), compression="lz4")),
    "one row in a row group": parquet(table(group=1)),
    "the second page format": parquet(written(pa.table({"text": TEXTS}), data_page_version="2.0")),
    "a text above the limit": parquet(
        table(text=[LONG[0] * 2, *OTHERS, ""][:12]), OTHERS, document_too_long=1
    ),
    "a bomb": parquet(written(pa.table({"text": LONG}), compression="zstd"), [], expansion=1),
}

REFUSED = {
    "no column of texts": (
        written(pa.table({"content": TEXTS})),
        "no column 'text'; there are content",
    ),
    "no columns": (written(pa.table({"n": [1]}).select([])), "no column 'text'"),
    "texts are numbers": (
        table(text=list(range(12))),
        r"expected strings in column 'text' \(got int64\)",
    ),
    "texts are bytes": (
        table(text=[b"a"] * 12),
        r"expected strings in column 'text' \(got binary\)",
    ),
    "texts are lists": (table(text=[["a"]] * 12), "expected strings in column 'text'"),
    "texts are structs": (table(text=[{"text": "a"}] * 12), "expected strings in column 'text'"),
    "texts of the type null": (
        table(text=[None] * 12),
        r"expected strings in column 'text' \(got null\)",
    ),
}


def record(text: str, kind: str = "conversion", **fields: str) -> bytes:
    """Write a record of a WET file."""
    body = text.encode()
    lines = {
        "WARC-Type": kind,
        "WARC-Target-URI": "https://a",
        "Content-Length": str(len(body)),
        **fields,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return b"WARC/1.0\r\n" + head.encode() + b"\r\n" + body + b"\r\n\r\n"


WET = [record(text) for text in TEXTS]


def among(bad: bytes, **went: int) -> Corpus:
    """Put a record among good ones."""
    return Corpus("a.wet", b"".join([*WET[:6], bad, *WET[6:]]), TEXTS, went)


def length(words: str) -> bytes:
    """Give a record another length than it has."""
    return record("a text of no record", **{"Content-Length": words})


PACKED = [gzip.compress(part, mtime=0) for part in WET]


def packed(place: int) -> bytes:
    """Write members with a record each, of which one has a flipped bit."""
    return b"".join([*PACKED[:6], flipped(PACKED[6], place), *PACKED[7:]])


RECORDS = {
    "as it should be": Corpus("a.wet", b"".join(WET), TEXTS, {}),
    "an empty file": Corpus("a.wet", b"", [], {}),
    "a length too short": among(length("3"), malformed_record=1),
    "a length too long": among(length("40"), malformed_record=1),
    "a length far too long": among(length("99999"), malformed_record=1),
    "a length beyond the limit": among(length("9999999"), record_too_long=1),
    "a negative length": among(length("-5"), malformed_record=1),
    "a length that is no number": among(length("x"), malformed_record=1),
    "a length of 400 digits": among(length("9" * 400), malformed_record=1),
    "no length": among(length(""), malformed_record=1),
    "no type": among(record("a", kind=""), malformed_record=1),
    "another type": among(record("a", kind="metadata"), not_a_conversion=1),
    "no header": among(b"some text that is no record\r\n\r\n", malformed_record=1),
    "another version": among(record("a").replace(b"WARC/1.0", b"WARC/9.9"), malformed_record=1),
    "a line between": among(b"rubbish\r\n", malformed_record=1),
    "not UTF-8": among(record("abc").replace(b"abc", b"\xff\xfe\xfd"), not_utf8=1),
    "no text": among(record(" \n"), no_text=1),
    "an empty body": among(record(""), no_text=1),
    "a header without an end": among(b"WARC/1.0\r\nWARC-Type: conversion\r\n", malformed_record=1),
    "a header of 9,000 fields": among(
        record("a", **{f"X-{n}": "a" for n in range(9000)}), malformed_record=1
    ),
    "bytes that are no text in a header": Corpus(
        "a.wet", WET[0].replace(b"https://a", b"\xff\0\xfe"), TEXTS[:1], {}
    ),
    "line feeds alone": Corpus("a.wet", b"".join(WET).replace(b"\r\n", b"\n"), TEXTS, {}),
    "a text is above the limit": among(record("a" * 600_000), document_too_long=1),
    "cut in a record": Corpus("a.wet", b"".join(WET)[:-20], TEXTS[:-1], {"truncated": 1}),
    "cut in a header": Corpus("a.wet", b"".join(WET) + WET[0][:30], TEXTS, {"truncated": 1}),
    "packed, a member to a record": Corpus("a.wet.gz", b"".join(PACKED), TEXTS, {}),
    "packed, and cut": Corpus("a.wet.gz", b"".join(PACKED)[:-30], TEXTS[:-1], {"truncated": 1}),
    "packed, and a member is damaged": Corpus("a.wet.gz", packed(-6), OTHERS, {"damaged": 1}),
    "packed, and a member's start is damaged": Corpus(
        "a.wet.gz", packed(0), OTHERS, {"damaged": 1}
    ),
    "packed in one member": Corpus("a.wet.gz", gzip.compress(b"".join(WET)), TEXTS, {}),
    "JSON lines": Corpus("a.wet", WHOLE, [], {"malformed_record": 1}),
    "a bomb": Corpus("a.wet.gz", gzip.compress(record("a" * (4 << 20))), [], {"expansion": 1}),
}


def page(words: str, head: str = "") -> bytes:
    """Write a page with a paragraph."""
    reason = "because the sun would dry them at noon"
    paragraph = f"<p>{words} waters the tomatoes in the evening, {reason}.</p>" * 3
    return f"<html><head>{head}<title>A page</title></head><body>{paragraph}</body></html>".encode()


PAGES = {
    "as it should be": (page("Anna"), "Anna", None),
    "of no bytes": (b"", None, "no_main_text"),
    "blank": (b"\n\n", None, "no_main_text"),
    "no text": (b"<html><body></body></html>", None, "no_main_text"),
    "a script alone": (b"<script>alert(1)</script>", None, "no_main_text"),
    "cut in a tag": (page("Berta")[:-10], "Berta", None),
    "no tags closed": (
        page("Carla").replace(b"</p>", b"").replace(b"</body></html>", b""),
        "Carla",
        None,
    ),
    "NULs": (page("Dora").replace(b"<p>", b"\0<p>"), "Dora", None),
    "UTF-16": (page("Emma").decode().encode("utf-16"), "Emma", None),
    "Latin-1": (page("Fränzi").decode().encode("latin-1"), "Fränzi", None),
    "a wrong declaration": (page("Grétel", '<meta charset="utf-16">'), "Grétel", None),
    "an unknown declaration": (page("Hanna", '<meta charset="rot13">'), "Hanna", None),
    "no encoding at all": (bytes(range(128, 256)) * 9, None, "not_decodable"),
    "a depth of 50,000": (b"<div>" * 50_000 + b"deep" + b"</div>" * 50_000, None, "no_main_text"),
    "too many tags": (b"<b>a" * 150_000, None, "too_many_tags"),
    "above the limit": (b"<p>" + b"a" * (1 << 20), None, "record_too_long"),
    "PDF": (b"%PDF-1.4\n%\xe2\xe3\xcf\xd3\n" * 30, None, "no_main_text"),
    "PNG": (b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 9, None, "not_decodable"),
    "packed": (gzip.compress(page("Ida")), "Ida", None),
    "packed and cut": (gzip.compress(page("Jana"))[:-20], None, "truncated"),
    "packed and damaged": (flipped(gzip.compress(page("Karin")), -6), None, "damaged"),
    "packed in a way not known": (bz2.compress(page("Lena")), None, "unknown_packing"),
    "a bomb": (gzip.compress(b"<p>" + bytes(4 << 20)), None, "expansion"),
    "XML entities": (
        b'<!DOCTYPE a [<!ENTITY b "bb">]><html><body><p>&b;</p></body></html>',
        None,
        "no_main_text",
    ),
    "a local file": (
        b'<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/passwd">]><p>&b;</p>',
        "&b;",
        None,
    ),
}
