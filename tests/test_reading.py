"""Readers lose nothing: every row is a document, dropped by name, or quarantined with reason, file and offset."""

import gzip
import hashlib
import json
import zlib
from collections import Counter
from io import BytesIO
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from datatrove.data import Document
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from safelm.reading.duplicates import DropDuplicates
from safelm.reading.extract import Extract, ExtractionError
from safelm.reading.guard import GUARD, ChildSafety, Words, is_unsafe_for_children
from safelm.reading.lines import Skipped, lines
from safelm.reading.page import decode
from safelm.reading.readers import READERS
from safelm.reading.source import ReadSource, SourceError, files_of
from safelm.shards import text_digest
from specs.tokens import END, TAG
from specs.yaml_file import SpecError

VALUES: dict[str, Any] = {
    "files": "*",
    "source": "web",
    "text": "text",
    "prompt": None,
    "license": "CC0-1.0",
    "line_bytes": 1 << 20,
    "document_bytes": 1 << 19,
    "expansion": 200,
}
TEXTS = [f"page {number} is about the garden" for number in range(40)]
ROWS = [json.dumps({"text": text}).encode() + b"\n" for text in TEXTS]
PARAGRAPH = "The gardener waters the tomatoes in the evening, because the sun would dry them at noon. " * 5


def read(kind: str, path: Path, **values: Any) -> tuple[list[Document], ReadSource]:
    """Every document of a source, and the reader with what it dropped and quarantined."""
    reader = READERS[kind](path=path, **{**VALUES, **values})
    documents = []
    for task in reader.tasks():
        reader.begin(task, path.parent)
        documents += list(reader.run(None))
    return documents, reader


def read_bytes(tmp_path: Path, data: bytes, name: str = "a.jsonl", kind: str = "jsonl", **values: Any) -> Any:
    """The texts of a file with these bytes, how many rows went where, and the reader."""
    (tmp_path / name).write_bytes(data)
    documents, reader = read(kind, tmp_path / name, **values)
    return [document.text for document in documents], reasons(reader), reader


def reasons(reader: ReadSource) -> dict[str, int]:
    return {**reader.dropped, **Counter(row["reason"] for row in reader.quarantined)}


# ── JSON lines ──


def test_lines_have_offsets_and_the_last_has_not_ended() -> None:
    found = [(line.offset, line.content, line.has_ended) for line in lines([b"ab\nc", b"d\n\ne"], 10)]
    assert found == [(0, b"ab", True), (3, b"cd", True), (6, b"", True), (7, b"e", False)]


def test_a_long_line_is_counted_and_not_kept() -> None:
    first, second, _ = lines([b"ab", b"cd", b"ef\nxy\n"], 3)
    assert isinstance(first.content, Skipped) and first.content.size == 6
    assert first.content.digest.hexdigest() == hashlib.sha256(b"abcdef").hexdigest()
    assert second.offset == 7 and second.content == b"xy"


BAD_LINES = {
    b'{"text": "\xff"}': "not_utf8",
    b'{"text": "\xed\xa0\x80"}': "not_utf8",
    b'{"text": "half a pair \\ud800"}': "not_json",
    b'{"text": "a", "x": NaN}': "not_json",
    b"\0\0\0\0": "not_json",
    b'{"text": "a\0b"}': "not_json",
    b'{"text": "one"}{"text": "two"}': "not_json",
    b'{"text": "cut': "not_json",
    b"[" * 2000 + b"]" * 2000: "not_json",
    b'{"x": ' * 2000 + b"1" + b"}" * 2000: "not_json",
    b'["text"]': "not_an_object",
    b"null": "not_an_object",
    b"42": "not_an_object",
    b'"text"': "not_an_object",
    b"{}": "no_text",
    b'{"Text": "a"}': "no_text",
    b'{"text": null}': "no_text",
    b'{"text": ""}': "no_text",
    b'{"text": " \\n"}': "no_text",
    b'{"text": 7}': "no_text",
    b'{"text": ["a"]}': "no_text",
    b'{"text": "' + b"a" * (1 << 20) + b'"}': "line_too_long",
    b'{"text": "' + b"a" * (1 << 19) + b'b"}': "document_too_long",
    b'{"text": "' + "é".encode() * (1 << 18) + b'b"}': "document_too_long",
    b"": "blank_line",
    b" \t\r": "blank_line",
}


@pytest.mark.parametrize("place", [0, 1, 2])
@pytest.mark.parametrize("line", BAD_LINES, ids=lambda line: line[:24].decode("ascii", "backslashreplace"))
def test_a_bad_line_costs_one_line(tmp_path: Path, line: bytes, place: int) -> None:
    rows = [*ROWS[:place], line + b"\n", *ROWS[place:2]]
    texts, went, reader = read_bytes(tmp_path, b"".join(rows))
    assert texts == TEXTS[:2] and went == {BAD_LINES[line]: 1} and reader.rows_in == 3
    for row in reader.quarantined:
        assert row["file"] == "a.jsonl" and row["offset"] == sum(map(len, ROWS[:place]))
        assert row["sha256"] == hashlib.sha256(line).hexdigest() and row["bytes"] == len(line)


GOOD_FILES = {
    "byte order mark": b"\xef\xbb\xbf" + b"".join(ROWS[:2]),
    "carriage returns": b"".join(row.replace(b"\n", b"\r\n") for row in ROWS[:2]),
    "no last line feed": b"".join(ROWS[:2])[:-1],
    "duplicate keys": b'{"text": "x", "text": "page 0 is about the garden"}\n' + ROWS[1],
    "a large number": b'{"text": "page 0 is about the garden", "n": 123456789012345678901234567890}\n' + ROWS[1],
    "two gzip members": gzip.compress(ROWS[0]) + gzip.compress(ROWS[1]),
    "a line over two gzip members": gzip.compress(ROWS[0][:9]) + gzip.compress(ROWS[0][9:] + ROWS[1]),
    "zeros after gzip": gzip.compress(b"".join(ROWS[:2])) + b"\0" * 512,
    "an empty gzip member": gzip.compress(b"") + gzip.compress(b"".join(ROWS[:2])),
    "two zstd frames": zstandard.compress(ROWS[0]) + zstandard.compress(ROWS[1]),
    "a skippable zstd frame": b"\x50\x2a\x4d\x18\x02\0\0\0ab" + zstandard.compress(b"".join(ROWS[:2])),
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("kind", GOOD_FILES)
def test_a_file_is_what_its_first_bytes_say(tmp_path: Path, kind: str, name: str) -> None:
    texts, went, reader = read_bytes(tmp_path, GOOD_FILES[kind], name)
    assert (texts, went, reader.rows_in) == (TEXTS[:2], {}, 2)


@pytest.mark.parametrize("text", ["a\u0000b", "a\u2028b", "\U0001f600", "a\x85b"])
def test_odd_letters_stay(tmp_path: Path, text: str) -> None:
    assert read_bytes(tmp_path, json.dumps({"text": text}).encode())[0] == [text]


def test_a_file_in_utf_16_is_quarantined_line_by_line(tmp_path: Path) -> None:
    texts, went, _ = read_bytes(tmp_path, b"".join(ROWS[:3]).decode().encode("utf-16"))
    assert texts == [] and went == {"not_utf8": 4}


def test_a_line_cut_at_the_end_of_a_file_is_truncated(tmp_path: Path) -> None:
    texts, went, reader = read_bytes(tmp_path, b"".join(ROWS[:3])[:-5])
    assert texts == TEXTS[:2] and went == {"truncated": 1}
    assert reader.quarantined[0]["offset"] == len(ROWS[0]) + len(ROWS[1])


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_an_empty_packed_file_is_truncated(tmp_path: Path, name: str) -> None:
    assert read_bytes(tmp_path, b"", name)[1] == {"truncated": 1}


def test_an_empty_plain_file_has_no_rows(tmp_path: Path) -> None:
    texts, went, reader = read_bytes(tmp_path, b"")
    assert (texts, went, reader.rows_in) == ([], {}, 0)


def test_gzip_without_its_check_sum_keeps_every_line(tmp_path: Path) -> None:
    texts, went, _ = read_bytes(tmp_path, gzip.compress(b"".join(ROWS))[:-8], "a.gz")
    assert texts == TEXTS and went == {"truncated": 1}


def test_a_wrong_check_sum_lets_no_line_through(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(b"".join(ROWS * 1000)))
    data[-6] ^= 1
    texts, went, _ = read_bytes(tmp_path, bytes(data), "a.gz", expansion=1000)
    assert texts == [] and went["damaged"] > 20_000


@pytest.mark.parametrize("place", [0, 2, 3, 20])
def test_a_damaged_member_costs_its_lines(tmp_path: Path, place: int) -> None:
    members = [gzip.compress(b"".join(ROWS[first : first + 10]), mtime=0) for first in range(0, 40, 10)]
    start = len(members[0])
    data = bytearray(b"".join(members))
    data[start + place] ^= 4
    texts, went, _ = read_bytes(tmp_path, bytes(data), "a.jsonl.gz")
    assert texts == TEXTS[:10] + TEXTS[20:] and set(went) == {"damaged"}


def test_rubbish_after_gzip_is_one_row(tmp_path: Path) -> None:
    texts, went, reader = read_bytes(tmp_path, gzip.compress(b"".join(ROWS)) + b"rubbish", "a.gz")
    assert texts == TEXTS and went == {"damaged": 1}
    assert reader.quarantined[0]["offset"] == sum(map(len, ROWS))


def test_a_damaged_zstd_frame_costs_its_lines(tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor(write_checksum=True)
    first, second = packer.compress(b"".join(ROWS[:20])), packer.compress(b"".join(ROWS[20:]))
    damaged = first[:-1] + bytes([first[-1] ^ 1])
    texts, went, _ = read_bytes(tmp_path, damaged + second, "a.zst")
    assert texts == TEXTS[20:] and set(went) == {"damaged"}


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_bomb_is_refused_whole(tmp_path: Path, pack: Any) -> None:
    data = pack(b"".join(ROWS) + b'{"text": "' + b"a" * 4_000_000 + b'"}\n')
    texts, went, reader = read_bytes(tmp_path, data, line_bytes=1 << 24)
    assert texts == [] and went == {"expansion": 1}
    assert reader.quarantined[0]["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\0"])
def test_another_packing_is_one_row(tmp_path: Path, start: bytes) -> None:
    assert read_bytes(tmp_path, start + bytes(100))[:2] == ([], {"unknown_packing": 1})


def test_a_zstd_frame_that_asks_for_too_much_memory_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = stream.compress(b"".join(ROWS)) + stream.flush()
    assert read_bytes(tmp_path, data, "a.zst")[:2] == ([], {"unknown_packing": 1})


MUTATION = st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=6))
UNTIMED = settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)


@UNTIMED
@given(change=MUTATION)
@example(change=(0, b"\xff\xfe"))
@example(change=(0, b"\x1f\x8b\x08"))
def test_bytes_changed_in_a_plain_file_cost_only_the_lines_they_are_in(
    tmp_path: Path, change: tuple[int, bytes]
) -> None:
    data = bytearray(b"".join(ROWS))
    start = change[0] % (len(data) - 6)
    end = start + len(change[1])
    data[start:end] = change[1]
    texts, _, reader = read_bytes(tmp_path, bytes(data))
    ends = [sum(map(len, ROWS[: number + 1])) for number in range(len(ROWS))]
    untouched = [TEXTS[number] for number, stop in enumerate(ends) if stop <= start or stop - len(ROWS[number]) > end]
    if data[:3] == b"\x1f\x8b\x08" or data[:2] in (b"\xff\xfe", b"\xfe\xff", b"PK", b"BZ"):
        assert reader.quarantined  # another kind of file altogether
    else:
        assert reader.rows_in == data.count(b"\n") + (not data.endswith(b"\n"))
        assert set(untouched) <= set(texts)


PACKED = {
    "gzip": gzip.compress(b"".join(ROWS), mtime=0),
    "gzip members": b"".join(gzip.compress(b"".join(ROWS[first : first + 8]), mtime=0) for first in range(0, 40, 8)),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress(b"".join(ROWS)),
}


@pytest.mark.parametrize("kind", PACKED)
@UNTIMED
@given(change=MUTATION)
def test_no_changed_letter_comes_out_of_a_packed_file(tmp_path: Path, kind: str, change: tuple[int, bytes]) -> None:
    data = bytearray(PACKED[kind])
    start = change[0] % (len(data) - 60)  # what is changed at the very end cannot be told from a cut
    data[start : start + len(change[1])] = change[1]
    texts, _, reader = read_bytes(tmp_path, bytes(data), "a.zst" if kind == "zstd" else "a.gz")
    assert set(texts) <= set(TEXTS)
    assert len(texts) == len(TEXTS) or reader.quarantined


@pytest.mark.parametrize("kind", ["plain", *PACKED])
@UNTIMED
@given(size=st.integers(1, 10**6))
def test_a_file_that_was_cut_keeps_every_line_before(tmp_path: Path, kind: str, size: int) -> None:
    whole = PACKED.get(kind, b"".join(ROWS))
    data = whole[: size % len(whole)]
    texts, went, reader = read_bytes(tmp_path, data, "a.zst" if kind == "zstd" else "a.gz")
    assert texts == TEXTS[: len(texts)] and reader.rows_in == len(texts) + sum(went.values())
    if kind == "plain":
        assert len(texts) in (data.count(b"\n"), data.count(b"\n") + 1)
    elif kind == "gzip" and data:
        assert len(texts) >= zlib.decompressobj(31).decompress(data).count(b"\n")


# ── from a row to a document ──


def documents_of(tmp_path: Path, *rows: dict[str, Any], **values: Any) -> list[Document]:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read("jsonl", tmp_path / "rows.jsonl", **values)[0]


def test_the_id_is_the_digest_of_prompt_and_text(tmp_path: Path) -> None:
    (page,) = documents_of(tmp_path, {"text": "a", "id": "theirs"})
    (turn,) = documents_of(tmp_path, {"answer": "a", "question": "b"}, text="answer", prompt="question")
    assert (page.id, turn.id) == (text_digest(None, "a"), text_digest("b", "a"))
    assert turn.text == "a" and turn.metadata["prompt"] == "b"


@pytest.mark.parametrize("prompt", [{}, {"prompt": None}, {"prompt": " "}, {"prompt": 3}])
def test_a_dialogue_without_a_prompt_is_quarantined(tmp_path: Path, prompt: dict[str, Any]) -> None:
    data = json.dumps({"text": "a", **prompt}).encode()
    assert read_bytes(tmp_path, data, prompt="prompt")[:2] == ([], {"no_prompt": 1})


def test_where_a_document_is_from_is_kept(tmp_path: Path) -> None:
    first, second, third = documents_of(
        tmp_path,
        {"text": "a", "url": "https://a", "title": "A", "license": "MIT", "crawl": "CC-1", "source": "theirs"},
        {"text": "b", "metadata": {"url": "https://b", "date": "2020-01-01"}},
        {"text": "c", "meta": "{}", "url": 7, "title": "two\nlines"},
    )
    assert first.metadata == {
        "source": "web", "url": "https://a", "crawl": "CC-1", "title": "A", "license": "MIT"
    }  # fmt: skip
    assert second.metadata == {"source": "web", "url": "https://b", "crawl": "2020-01-01", "license": "CC0-1.0"}
    assert third.metadata == {"source": "web", "license": "CC0-1.0"}


@pytest.mark.parametrize("label", [-1, 6, 2.0, "3", True, None])
def test_a_label_is_a_whole_number_from_0_to_5(tmp_path: Path, label: Any) -> None:
    good, bad = documents_of(tmp_path, {"text": "a", "label": 3, "hazard": "hate"}, {"text": "b", "label": label})
    assert good.metadata["label"] == 3 and good.metadata["hazard"] == "hate"
    assert "label" not in bad.metadata


def test_a_text_cannot_smuggle_a_special_token(tmp_path: Path) -> None:
    nested = f"{TAG[:9]}{END}{TAG[9:]}"
    documents = documents_of(tmp_path, {"text": f"a{TAG} b", "title": f"t{END}"}, {"text": f"c {nested}d"})
    assert [document.text for document in documents] == ["a b", "c d"]
    assert documents[0].metadata["title"] == "t"


def test_a_text_of_special_tokens_alone_is_dropped(tmp_path: Path) -> None:
    texts, went, reader = read_bytes(tmp_path, json.dumps({"text": f"{TAG} {END}"}).encode())
    assert (texts, went) == ([], {"only_special_tokens": 1})
    assert reader.stats["special tokens removed"].total == 2


# ── files ──


def test_files_are_found_in_folders_sorted_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.jsonl", ".hidden.jsonl", ".git/c.jsonl", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    names = [file.relative_to(tmp_path).as_posix() for file in files_of(tmp_path, "*.jsonl")]
    assert names == ["a/z.jsonl", "b.jsonl"]


def test_a_pattern_that_matches_nothing_lists_what_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(SourceError, match=r"no file matches '\*.jsonl'; there is a.txt"):
        files_of(tmp_path, "*.jsonl")
    with pytest.raises(SourceError, match="nothing is there"):
        files_of(tmp_path / "missing", "*")
    with pytest.raises(SourceError, match="no pattern"):
        files_of(tmp_path, "/etc/*")


def test_a_pattern_does_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret.jsonl").write_text("")
    with pytest.raises(SourceError, match="no file matches"):
        files_of(tmp_path / "in", "../*.jsonl")


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROWS[0])
    reader = READERS["jsonl"](path=tmp_path / "a.jsonl", **VALUES)
    (task,) = reader.tasks()
    (tmp_path / "a.jsonl").write_bytes(ROWS[1])
    with pytest.raises(SourceError, match="was changed"):
        list(reader.read(task))


# ── Parquet ──


def parquet(**columns: Any) -> bytes:
    data = BytesIO()
    table = pa.table(columns)
    pq.write_table(table, data, row_group_size=10, write_page_checksum=True, compression="none", use_dictionary=False)
    return data.getvalue()


def test_parquet_rows_are_documents_and_a_null_is_quarantined(tmp_path: Path) -> None:
    data = parquet(text=["a", None, "c"], url=["u", "v", "w"], label=[1, 2, 9], other=[[1], [2], [3]])
    texts, went, reader = read_bytes(tmp_path, data, "a.parquet", "parquet")
    assert (texts, went) == (["a", "c"], {"no_text": 1}) and reader.quarantined[0]["offset"] == 1


def test_a_parquet_file_without_the_column_names_those_it_has(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no column 'text'; there are content, url; name one"):
        read_bytes(tmp_path, parquet(content=["a"], url=["u"]), "a.parquet", "parquet")
    with pytest.raises(SourceError, match=r"expected strings in column 'text' \(got int64\)"):
        read_bytes(tmp_path, parquet(text=[1]), "a.parquet", "parquet")


def test_a_flipped_bit_costs_a_row_group(tmp_path: Path) -> None:
    data = bytearray(parquet(text=TEXTS))
    place = bytes(data).index(b"page 12 is")
    data[place] ^= 1
    texts, went, reader = read_bytes(tmp_path, bytes(data), "a.parquet", "parquet")
    assert texts == TEXTS[:10] + TEXTS[20:] and went == {"damaged": 10}
    assert [row["offset"] for row in reader.quarantined] == list(range(10, 20))


@pytest.mark.parametrize("size", [0, 3, 200, -10])
def test_a_parquet_file_that_was_cut_is_one_row(tmp_path: Path, size: int) -> None:
    assert read_bytes(tmp_path, parquet(text=TEXTS)[:size], "a.parquet", "parquet")[:2] == ([], {"damaged": 1})


def test_a_parquet_string_that_is_not_utf8_costs_a_row(tmp_path: Path) -> None:
    column = pa.Array.from_buffers(
        pa.string(), 3, pa.array([b"a", b"\xff", b"c"], pa.binary()).buffers()
    )  # fmt: skip
    assert read_bytes(tmp_path, parquet(text=column), "a.parquet", "parquet")[:2] == (["a", "c"], {"not_utf8": 1})


@UNTIMED
@given(change=MUTATION)
def test_no_changed_letter_comes_out_of_a_parquet_file(tmp_path: Path, change: tuple[int, bytes]) -> None:
    data = bytearray(parquet(text=TEXTS))
    start = change[0] % len(data)
    data[start : start + 1] = change[1][:1]
    (tmp_path / "a.parquet").write_bytes(data)
    try:
        documents, _ = read("parquet", tmp_path / "a.parquet")
    except SourceError:
        documents = []  # the name of the column was hit
    assert {document.text for document in documents} <= set(TEXTS)


# ── data sets of the hub ──


def hub(tmp_path: Path, **values: Any) -> Path:
    spec = {"dataset": "./rows", "name": None, "split": "train", "revision": None, **values}
    (tmp_path / "rows").mkdir(exist_ok=True)
    pq.write_table(pa.table({"content": ["a", "b"], "n": [1, 2]}), tmp_path / "rows/train-0.parquet")
    pq.write_table(pa.table({"content": ["c", None], "n": [3, 4]}), tmp_path / "rows/train-1.parquet")
    (tmp_path / "set.yaml").write_text(json.dumps(spec))
    return tmp_path / "set.yaml"


def test_a_local_data_set_is_read_shard_by_shard(tmp_path: Path) -> None:
    documents, reader = read("huggingface", hub(tmp_path), text="content")
    assert [document.text for document in documents] == ["a", "b", "c"]
    assert [(row["file"], row["offset"], row["reason"]) for row in reader.quarantined] == [("set.yaml#1", 1, "no_text")]


def test_a_data_set_of_the_hub_needs_a_pinned_revision(tmp_path: Path) -> None:
    with pytest.raises(SpecError, match="a branch moves"):
        read("huggingface", hub(tmp_path, dataset="some/set"))
    with pytest.raises(SpecError, match="revision"):
        read("huggingface", hub(tmp_path, dataset="some/set", revision="main"))


def test_a_data_set_that_cannot_be_read_says_why(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no column 'text'; there are content, n"):
        read("huggingface", hub(tmp_path))
    with pytest.raises(SourceError, match=r"cannot read split 'other' of '\./rows'"):
        read("huggingface", hub(tmp_path, split="other"), text="content")


# ── WARC and WET ──


def warc(*pages: tuple[str, bytes, str], is_packed: bool = False) -> list[bytes]:
    """Records: (type, payload, HTTP header fields after the status line; "" for a record that is no HTTP)."""
    parts = []
    for number, (kind, payload, http) in enumerate(pages):
        data = BytesIO()
        writer = WARCWriter(data, gzip=is_packed)
        status, _, fields = http.partition("\n")
        pairs = [tuple(line.split(": ", 1)) for line in fields.splitlines()]
        head = StatusAndHeaders(status, pairs, protocol="HTTP/1.1") if http else None
        dated = {"WARC-Date": "2024-04-25T01:02:03Z"}
        address = f"https://example.org/{number}"
        writer.write_record(
            writer.create_warc_record(
                address, kind, payload=BytesIO(payload), http_headers=head, warc_headers_dict=dated
            )
        )
        parts.append(data.getvalue())
    return parts


def html(number: int) -> bytes:
    return (
        f"<html><head><title>Page {number}</title></head><body><p>Page {number}. {PARAGRAPH}</p></body></html>".encode()
    )


OK = "200 OK\nContent-Type: text/html; charset=utf-8"


@pytest.mark.parametrize("is_packed", [False, True])
def test_every_record_of_a_warc_is_a_page_or_has_a_name(tmp_path: Path, is_packed: bool) -> None:
    data = warc(
        ("warcinfo", b"software: x", ""),
        ("request", b"", "GET / HTTP/1.1\nHost: example.org"),
        ("response", html(2), OK),
        ("response", html(3), "404 Not Found\nContent-Type: text/html"),
        ("response", html(4), "301 Moved\nContent-Type: text/html"),
        ("response", b"%PDF", "200 OK\nContent-Type: application/pdf"),
        ("response", html(6), "200 OK\nServer: x"),
        ("response", b"<html><body></body></html>", OK),
        ("response", gzip.compress(html(8)), OK + "\nContent-Encoding: gzip"),
        ("response", html(9), OK + "\nContent-Encoding: br"),
        ("response", b"\x8b\x00", OK + "\nContent-Encoding: br"),
        ("response", b"1f4\r\n" + html(11)[:500] + b"\r\n0\r\n\r\n", OK + "\nTransfer-Encoding: chunked"),
        is_packed=is_packed,
    )
    texts, went, reader = read_bytes(tmp_path, b"".join(data), "a.warc", "warc")
    assert [text[:8] for text in texts] == ["Page 2. ", "Page 6. ", "Page 8. ", "Page 9. ", "Page 11."]
    assert went == {"not_a_response": 2, "http_error": 2, "not_html": 1, "no_main_text": 1, "unknown_coding": 1}
    assert reader.rows_in == 12


def test_a_page_keeps_its_address_its_crawl_and_its_title(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(b"".join(warc(("response", html(0), OK))))
    (document,), _ = read("warc", tmp_path / "a.warc")
    assert document.metadata["url"] == "https://example.org/0" and document.metadata["crawl"] == "2024-04-25"
    assert document.metadata["title"] == "Page 0" and document.text == f"Page 0. {PARAGRAPH}".strip()


def texts_of_wet(tmp_path: Path, data: bytes, name: str = "a.wet") -> tuple[list[str], dict[str, int], ReadSource]:
    texts, went, reader = read_bytes(tmp_path, data, name, "wet")
    return texts, went, reader


WET = warc(*(("conversion", text.encode(), "") for text in TEXTS))
PARTS = {"a.wet": WET, "a.wet.gz": warc(*(("conversion", text.encode(), "") for text in TEXTS), is_packed=True)}
LENGTH = b"Content-Length: %d" % len(TEXTS[1])

BAD_RECORDS = {
    "length too short": WET[1].replace(LENGTH, b"Content-Length: 9"),
    "length too long": WET[1].replace(LENGTH, b"Content-Length: 79"),
    "length far too long": WET[1].replace(LENGTH, b"Content-Length: 99999"),
    "length beyond the limit": WET[1].replace(LENGTH, b"Content-Length: 9999999"),
    "length no number": WET[1].replace(LENGTH, b"Content-Length: x"),
    "no length": WET[1].replace(LENGTH + b"\r\n", b""),
    "no type": WET[1].replace(b"WARC-Type: conversion\r\n", b""),
    "no header": b"some text that is no record\r\n\r\n",
    "a line between": WET[1].replace(b"WARC/1.0", b"WARC/9.9"),
}


@pytest.mark.parametrize("kind", BAD_RECORDS)
def test_a_malformed_record_costs_itself_alone(tmp_path: Path, kind: str) -> None:
    texts, went, reader = texts_of_wet(tmp_path, WET[0] + BAD_RECORDS[kind] + b"".join(WET[2:]))
    assert texts == TEXTS[:1] + TEXTS[2:] and sum(went.values()) == 1
    assert set(went) == {"record_too_long" if kind == "length beyond the limit" else "malformed_record"}
    assert reader.quarantined[0]["offset"] == len(WET[0])
    assert reader.quarantined[0]["bytes"] == len(BAD_RECORDS[kind])


def test_records_with_plain_line_feeds_are_read_when_their_lengths_are_right(tmp_path: Path) -> None:
    record = "WARC/1.0\nWARC-Type: conversion\nContent-Length: {}\n\n{}\n\n"
    good = [record.format(len(text.encode()), text) for text in ("one ü", "two")]
    data = good[0] + record.format(9, "a text that is longer") + good[1]
    texts, went, _ = texts_of_wet(tmp_path, data.encode())
    assert texts == ["one ü", "two"] and went == {"malformed_record": 1}


@pytest.mark.parametrize("name", PARTS)
@UNTIMED
@given(size=st.integers(1, 10**6))
def test_a_warc_that_was_cut_keeps_every_record_before(tmp_path: Path, name: str, size: int) -> None:
    parts = PARTS[name]
    data = b"".join(parts)[: size % len(b"".join(parts))]
    ends = [len(b"".join(parts[: number + 1])) for number in range(len(parts))]
    whole = sum(end <= len(data) for end in ends)
    texts, went, _ = texts_of_wet(tmp_path, data, name)
    assert texts[:whole] == TEXTS[:whole] and len(texts) <= whole + 1
    assert set(went) <= {"truncated"}


@pytest.mark.parametrize("name", PARTS)
@UNTIMED
@given(change=MUTATION)
def test_bytes_changed_in_a_warc_cost_only_the_records_they_are_in(
    tmp_path: Path, name: str, change: tuple[int, bytes]
) -> None:
    parts = PARTS[name]
    data = bytearray(b"".join(parts))
    start = change[0] % (len(data) - 6)
    data[start : start + len(change[1])] = change[1]
    ends = [len(b"".join(parts[: number + 1])) for number in range(len(parts))]
    untouched = [
        TEXTS[number]
        for number, end in enumerate(ends)
        if end <= start or end - len(parts[number]) > start + len(change[1])
    ]
    texts, _, _ = texts_of_wet(tmp_path, bytes(data), name)
    assert set(untouched) <= set(texts)


def test_a_file_that_is_no_warc_is_one_row(tmp_path: Path) -> None:
    assert texts_of_wet(tmp_path, b"a text\n" * 300_000)[:2] == ([], {"malformed_record": 1})


def test_a_long_record_is_passed_over(tmp_path: Path) -> None:
    long = warc(("conversion", b"a" * (2 << 20), ""), ("resource", b"b" * (2 << 20), ""))
    texts, went, _ = texts_of_wet(tmp_path, WET[0] + b"".join(long) + WET[1])
    assert texts == TEXTS[:2] and went == {"record_too_long": 1, "not_a_conversion": 1}


def test_a_bomb_in_a_response_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(b"<p>" + b"a" * (4 << 20))
    data = warc(("response", bomb, OK + "\nContent-Encoding: gzip"), ("response", html(1), OK))
    texts, went, _ = read_bytes(tmp_path, b"".join(data), "a.warc", "warc")
    assert len(texts) == 1 and went == {"expansion": 1}


def test_text_that_is_not_utf8_is_quarantined(tmp_path: Path) -> None:
    data = warc(("conversion", b"caf\xe9", ""), ("conversion", b" \n", ""), ("conversion", b"good", ""))
    assert texts_of_wet(tmp_path, b"".join(data))[:2] == (["good"], {"not_utf8": 1, "no_text": 1})


# ── HTML ──


@pytest.mark.parametrize(
    "content, charset",
    [
        ("<p>garçon".encode(), None),
        ("<p>garçon".encode(), "iso-8859-1"),  # a declaration that is wrong
        ("<p>garçon".encode("utf-8-sig"), None),
        ("<p>garçon".encode("utf-16"), None),
        ("<p>garçon".encode("utf-16-le"), "utf-16le"),
        ("<p>garçon".encode("cp1252"), "ISO-8859-1"),
        ("<meta charset='windows-1252'><p>garçon".encode("cp1252"), None),
        ("<meta charset=utf-16><p>garçon".encode(), None),
        ("<p>Le garçon a mangé à la cantine, où l'été est gai. Où était-il né ?".encode("cp1252"), None),
        ("<p>garçon".encode() + b"\xff" + ("é" * 20).encode(), "utf-8"),  # one byte is wrong
    ],
)
def test_a_page_is_decoded(content: bytes, charset: str | None) -> None:
    assert "garçon" in (decode(content, charset) or "")


def test_a_page_may_ask_for_encodings_of_pages_only() -> None:
    assert decode("<p>日本語のページ".encode("iso2022_jp"), "iso-2022-jp") == "<p>日本語のページ"
    assert decode(b"<p>\xff\x81\x8d", "unicode_escape") is None
    assert decode(bytes(range(128, 256)), "no such") is None


def test_html_files_are_pages_with_their_own_address(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "a.html").write_bytes(b'<link rel="canonical" href="https://example.org/a">' + html(1))
    (folder / "b.html.gz").write_bytes(gzip.compress(html(2)))
    (folder / "c.html").write_bytes(b"")
    (folder / "d.html.gz").write_bytes(gzip.compress(html(2))[:-20])
    (folder / "e.html").write_bytes(b"<p>" * (1 << 19))
    documents, reader = read("html", folder)
    assert [document.metadata.get("url") for document in documents] == ["https://example.org/a", None]
    assert reasons(reader) == {"no_main_text": 1, "truncated": 1, "record_too_long": 1}


def test_html_files_share_a_task(tmp_path: Path) -> None:
    for number in range(101):
        (tmp_path / f"{number:03d}.html").write_bytes(html(number))
    first, second = READERS["html"](path=tmp_path, **VALUES).tasks()
    assert len(first.inputs) == 100 and second.values == ("100.html",)


def test_a_page_that_takes_too_long_is_given_up_and_the_next_is_read() -> None:
    with Extract() as extract:
        assert extract(html(1).decode())["title"] == "Page 1"
        extract.seconds = 0.2
        with pytest.raises(ExtractionError, match="too_slow"):
            extract("<p " + " ".join(f'a{number}="1"' for number in range(60_000)) + ">text")
        extract.seconds = 60.0
        assert extract(html(2).decode())["title"] == "Page 2"


def test_a_page_with_too_many_tags_is_not_begun() -> None:
    with Extract() as extract, pytest.raises(ExtractionError, match="too_many_tags"):
        extract("<b>a" * 200_000)


def test_a_page_gives_the_same_text_after_any_other_page() -> None:
    pages = [html(number).decode().replace(f"Page {number}.", "Page.") for number in range(6)]
    with Extract() as extract:
        texts = [extract(page)["text"] for page in pages]
    assert texts == [texts[0]] * 6 and "tomatoes" in texts[0]


def test_a_page_is_not_given_up_over_the_width_of_a_cell() -> None:
    table = '<table><tr><td colspan="1.5">a</td><td colspan="99999999999">b</td></tr></table>'
    with Extract() as extract:
        assert "tomatoes" in extract(f"<body>{table}<p>{PARAGRAPH}</p>{table}</body>")["text"]


# ── the blocks after the reader ──


def test_the_guard_drops_what_stands_near() -> None:
    words = Words(frozenset({"kiss"}), frozenset({"pupil"}), near=3, adult=18)
    assert not is_unsafe_for_children("a kiss for all of the class and a pupil", words)
    assert is_unsafe_for_children("a pupil's KISS", words)
    assert is_unsafe_for_children("the ｐｕｐｉｌ, a kiss", words)
    assert is_unsafe_for_children("a kiss, a 17-year-old", words) and is_unsafe_for_children("17 year old kiss", words)
    assert not is_unsafe_for_children("a kiss, an 18-year-old", words)
    assert not is_unsafe_for_children("pupils kissed", words)


def test_the_guard_drops_by_name_and_reads_the_prompt_too() -> None:
    turn = Document(text="Sex education begins at school.", id="a", metadata={"prompt": "What do children learn?"})
    page = Document(text="Children learn to swim. " + "They play in the water. " * 3 + "Sex is a word.", id="b")
    guard = ChildSafety(words=GUARD)
    assert list(guard.run([turn, page])) == [page] and guard.dropped == {"child_safety": 1}


def test_the_first_of_equal_documents_stays() -> None:
    documents = [Document(text=text, id=text_digest(None, text)) for text in ("a", "b", "a", "a")]
    block = DropDuplicates()
    assert [document.text for document in block.run(documents)] == ["a", "b"] and block.dropped == {"duplicate": 2}


def test_the_embedded_world_is_a_source_with_labels() -> None:
    documents, reader = read("demo", Path("specs/demo/arithmetic.yaml"), source="arithmetic", prompt="prompt")
    assert len(documents) == reader.rows_in > 0
    assert all(document.metadata["label"] == 0 and document.metadata["prompt"] for document in documents)
