"""The reader of JSON lines, and what all readers do with rows, files and folders."""

import gzip
import hashlib
import json
import os
import zlib
from pathlib import Path
from typing import Any

import pytest
import zstandard
from datatrove.data import Document
from hypothesis import example, given
from hypothesis import strategies as st

from safelm.documents.shards import text_digest
from safelm.ingestion.base import files_of
from safelm.ingestion.child_safety import GUARD, ChildSafety, WordLists, is_unsafe_for_children
from safelm.ingestion.duplicates import DropDuplicates
from safelm.ingestion.errors import SourceError
from safelm.ingestion.lines import SkippedBytes, lines
from specs.document import GUARDED
from specs.tokens import END, SPECIAL, TAG
from tests.reading import MUTATION, ROWS, TEXTS, UNTIMED, read, read_bytes, reader_of


def test_lines_have_offsets_and_the_last_has_not_ended() -> None:
    listed = [
        (line.offset, line.content, line.has_ended) for line in lines([b"ab\nc", b"d\n\ne"], 10)
    ]
    assert listed == [(0, b"ab", True), (3, b"cd", True), (6, b"", True), (7, b"e", False)]


def test_a_long_line_is_counted_and_not_kept() -> None:
    first, second, _ = lines([b"ab", b"cd", b"ef\nxy\n"], 3)
    assert isinstance(first.content, SkippedBytes) and first.content.size == 6
    assert first.content.digest.hexdigest() == hashlib.sha256(b"abcdef").hexdigest()
    assert second.offset == 7 and second.content == b"xy"


def test_a_line_without_an_end_is_not_kept_in_memory() -> None:
    block = b"a" * (1 << 20)
    (line,) = lines((block for _ in range(64)), limit=1000)
    assert isinstance(line.content, SkippedBytes) and not line.has_ended
    assert line.content.size == 64 << 20
    assert line.content.digest.hexdigest() == hashlib.sha256(block * 64).hexdigest()


BAD_LINES = {
    b'{"text": "\xff"}': "not_utf8",
    b'{"text": "\xed\xa0\x80"}': "not_utf8",
    b'{"text": "half a pair \\ud800"}': "not_utf8",
    b'{"text": "a" "x": NaN}': "not_json",
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


@pytest.mark.parametrize("index", [0, 1, 2])
@pytest.mark.parametrize(
    "line", BAD_LINES, ids=lambda line: line[:24].decode("ascii", "backslashreplace")
)
def test_a_bad_line_costs_one_line(tmp_path: Path, line: bytes, index: int) -> None:
    rows = [*ROWS[:index], line + b"\n", *ROWS[index:2]]
    texts, counts, reader = read_bytes(tmp_path, b"".join(rows))
    assert texts == TEXTS[:2] and counts == {BAD_LINES[line]: 1} and reader.rows_in == 3
    for row in reader.quarantined:
        assert row["file"] == "a.jsonl" and row["offset"] == sum(map(len, ROWS[:index]))
        assert row["sha256"] == hashlib.sha256(line).hexdigest() and row["bytes"] == len(line)


GOOD_FILES = {
    "byte order mark": b"\xef\xbb\xbf" + b"".join(ROWS[:2]),
    "carriage returns": b"".join(row.replace(b"\n", b"\r\n") for row in ROWS[:2]),
    "no last line feed": b"".join(ROWS[:2])[:-1],
    "duplicate keys": b'{"text": "x", "text": "page 0 is about the garden"}\n' + ROWS[1],
    "a large number": b'{"text": "page 0 is about the garden", "n": 1234567890123456789012345}\n'
    + ROWS[1],
    "numbers and letters that JSON forbids": b'{"text": "page 0 is about the garden", "n": NaN}\n'
    b'{"text": "page 1 is about the garden", "title": "half a pair \\ud800", "n": -Infinity}\n',
    "two gzip members": gzip.compress(ROWS[0]) + gzip.compress(ROWS[1]),
    "a line over two gzip members": gzip.compress(ROWS[0][:9])
    + gzip.compress(ROWS[0][9:] + ROWS[1]),
    "zeros after gzip": gzip.compress(b"".join(ROWS[:2])) + b"\0" * 512,
    "an empty gzip member": gzip.compress(b"") + gzip.compress(b"".join(ROWS[:2])),
    "two zstd frames": zstandard.compress(ROWS[0]) + zstandard.compress(ROWS[1]),
    "a skippable zstd frame": b"\x50\x2a\x4d\x18\x02\0\0\0ab"
    + zstandard.compress(b"".join(ROWS[:2])),
}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz", "a.jsonl.zst"])
@pytest.mark.parametrize("kind", GOOD_FILES)
def test_a_file_is_what_its_first_bytes_say(tmp_path: Path, kind: str, name: str) -> None:
    texts, counts, reader = read_bytes(tmp_path, GOOD_FILES[kind], name)
    assert (texts, counts, reader.rows_in) == (TEXTS[:2], {}, 2)


@pytest.mark.parametrize("text", ["a\u0000b", "a\u2028b", "\U0001f600", "a\x85b"])
def test_odd_letters_stay(tmp_path: Path, text: str) -> None:
    assert read_bytes(tmp_path, json.dumps({"text": text}).encode())[0] == [text]


def test_a_file_in_utf_16_is_quarantined_line_by_line(tmp_path: Path) -> None:
    texts, counts, _ = read_bytes(tmp_path, b"".join(ROWS[:3]).decode().encode("utf-16"))
    assert texts == [] and counts == {"not_utf8": 4}


def test_a_line_cut_at_the_end_of_a_file_is_truncated(tmp_path: Path) -> None:
    texts, counts, reader = read_bytes(tmp_path, b"".join(ROWS[:3])[:-5])
    assert texts == TEXTS[:2] and counts == {"truncated": 1}
    assert reader.quarantined[0]["offset"] == len(ROWS[0]) + len(ROWS[1])


@pytest.mark.parametrize("name", ["a.jsonl.gz", "a.jsonl.zst"])
def test_an_empty_packed_file_is_truncated(tmp_path: Path, name: str) -> None:
    assert read_bytes(tmp_path, b"", name)[1] == {"truncated": 1}


def test_an_empty_plain_file_has_no_rows(tmp_path: Path) -> None:
    texts, counts, reader = read_bytes(tmp_path, b"")
    assert (texts, counts, reader.rows_in) == ([], {}, 0)


def test_gzip_without_its_check_sum_keeps_every_line(tmp_path: Path) -> None:
    texts, counts, _ = read_bytes(tmp_path, gzip.compress(b"".join(ROWS))[:-8], "a.gz")
    assert texts == TEXTS and counts == {"truncated": 1}


def test_a_wrong_check_sum_lets_no_line_through(tmp_path: Path) -> None:
    data = bytearray(gzip.compress(b"".join(ROWS * 1000)))
    data[-6] ^= 1
    texts, counts, _ = read_bytes(tmp_path, bytes(data), "a.gz", max_expansion_ratio=1000)
    assert texts == [] and counts["damaged"] > 20_000


@pytest.mark.parametrize("offset", [0, 2, 3, 20])
def test_a_damaged_member_costs_its_lines(tmp_path: Path, offset: int) -> None:
    members = [
        gzip.compress(b"".join(ROWS[first : first + 10]), mtime=0) for first in range(0, 40, 10)
    ]
    start = len(members[0])
    data = bytearray(b"".join(members))
    data[start + offset] ^= 4
    texts, counts, _ = read_bytes(tmp_path, bytes(data), "a.jsonl.gz")
    assert texts == TEXTS[:10] + TEXTS[20:] and set(counts) == {"damaged"}


def test_rubbish_after_gzip_is_one_row(tmp_path: Path) -> None:
    texts, counts, reader = read_bytes(tmp_path, gzip.compress(b"".join(ROWS)) + b"rubbish", "a.gz")
    assert texts == TEXTS and counts == {"damaged": 1}
    assert reader.quarantined[0]["offset"] == sum(map(len, ROWS))


def test_a_damaged_zstd_frame_costs_its_lines(tmp_path: Path) -> None:
    packer = zstandard.ZstdCompressor(write_checksum=True)
    first, second = packer.compress(b"".join(ROWS[:20])), packer.compress(b"".join(ROWS[20:]))
    damaged = first[:-1] + bytes([first[-1] ^ 1])
    texts, counts, _ = read_bytes(tmp_path, damaged + second, "a.zst")
    assert texts == TEXTS[20:] and set(counts) == {"damaged"}


@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress])
def test_a_bomb_is_refused_whole(tmp_path: Path, pack: Any) -> None:
    data = pack(b"".join(ROWS) + b'{"text": "' + b"a" * 4_000_000 + b'"}\n')
    texts, counts, reader = read_bytes(tmp_path, data, max_line_bytes=1 << 24)
    assert texts == [] and counts == {"expansion": 1}
    assert reader.quarantined[0]["sha256"] == hashlib.sha256(data).hexdigest()


@pytest.mark.parametrize("start", [b"PK\x03\x04", b"BZh9", b"\xfd7zXZ\0"])
def test_another_packing_is_one_row(tmp_path: Path, start: bytes) -> None:
    assert read_bytes(tmp_path, start + bytes(100))[:2] == ([], {"unknown_packing": 1})


def test_a_zstd_frame_that_asks_for_too_much_memory_is_refused(tmp_path: Path) -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=28, compression_level=1)
    stream = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    data = stream.compress(b"".join(ROWS)) + stream.flush()
    assert read_bytes(tmp_path, data, "a.zst")[:2] == ([], {"unknown_packing": 1})


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
    untouched = [
        TEXTS[number]
        for number, stop in enumerate(ends)
        if stop <= start or stop - len(ROWS[number]) > end
    ]
    if data[:3] == b"\x1f\x8b\x08" or data[:2] in (b"\xff\xfe", b"\xfe\xff", b"PK", b"BZ"):
        assert reader.quarantined  # another kind of file altogether
    else:
        assert reader.rows_in == data.count(b"\n") + (not data.endswith(b"\n"))
        assert set(untouched) <= set(texts)


PACKED = {
    "gzip": gzip.compress(b"".join(ROWS), mtime=0),
    "gzip members": b"".join(
        gzip.compress(b"".join(ROWS[first : first + 8]), mtime=0) for first in range(0, 40, 8)
    ),
    "zstd": zstandard.ZstdCompressor(write_checksum=True).compress(b"".join(ROWS)),
}


@pytest.mark.parametrize("kind", PACKED)
@UNTIMED
@given(change=MUTATION)
def test_no_changed_letter_comes_out_of_a_packed_file(
    tmp_path: Path, kind: str, change: tuple[int, bytes]
) -> None:
    data = bytearray(PACKED[kind])
    # A change at the very end looks like a cut.
    start = change[0] % (len(data) - 60)
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
    texts, counts, reader = read_bytes(tmp_path, data, "a.zst" if kind == "zstd" else "a.gz")
    assert texts == TEXTS[: len(texts)] and reader.rows_in == len(texts) + sum(counts.values())
    if kind == "plain":
        assert len(texts) in (data.count(b"\n"), data.count(b"\n") + 1)
    elif kind == "gzip" and data:
        assert len(texts) >= zlib.decompressobj(31).decompress(data).count(b"\n")


def documents_of(tmp_path: Path, *rows: dict[str, Any], **values: Any) -> list[Document]:
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return read("jsonl", tmp_path / "rows.jsonl", **values)[0]


def test_the_id_is_the_digest_of_prompt_and_text(tmp_path: Path) -> None:
    (page,) = documents_of(tmp_path, {"text": "a", "id": "theirs"})
    (turn,) = documents_of(
        tmp_path, {"answer": "a", "question": "b"}, text="answer", prompt="question"
    )
    assert (page.id, turn.id) == (text_digest(None, "a"), text_digest("b", "a"))
    assert turn.text == "a" and turn.metadata["prompt"] == "b"


@pytest.mark.parametrize("prompt", [{}, {"prompt": None}, {"prompt": " "}, {"prompt": 3}])
def test_a_dialogue_without_a_prompt_is_quarantined(tmp_path: Path, prompt: dict[str, Any]) -> None:
    data = json.dumps({"text": "a", **prompt}).encode()
    assert read_bytes(tmp_path, data, prompt="prompt")[:2] == ([], {"no_prompt": 1})


def test_metadata_of_a_row_is_kept(tmp_path: Path) -> None:
    first, second, third = documents_of(
        tmp_path,
        {
            "text": "a",
            "url": "https://a",
            "title": "A",
            "license": "MIT",
            "crawl": "CC-1",
            "source": "theirs",
        },
        {"text": "b", "title": "a\x07b", "metadata": {"url": "https://b", "date": "2020-01-01"}},
        {"text": "c", "meta": "{}", "url": 7, "title": "two\n\xa0lines"},
    )
    assert first.metadata == {
        "source": "web",
        "url": "https://a",
        "crawl": "CC-1",
        "title": "A",
        "license": "MIT",
    }
    assert second.metadata == {
        "source": "web",
        "url": "https://b",
        "crawl": "2020-01-01",
        "license": "CC0-1.0",
    }
    assert third.metadata == {"source": "web", "title": "two lines", "license": "CC0-1.0"}


@pytest.mark.parametrize("label", [-1, 6, 2.5, "3", True, None])
def test_a_label_is_a_whole_number_from_0_to_5(tmp_path: Path, label: Any) -> None:
    rows = (
        {"text": "a", "label": 3, "hazard": "hate"},
        {"text": "b", "label": 3.0},
        {"text": "c", "label": label},
    )
    good, whole, bad = documents_of(tmp_path, *rows)
    assert good.metadata["label"] == 3 and good.metadata["hazard"] == "hate"
    assert whole.metadata["label"] == 3 and type(whole.metadata["label"]) is int
    assert "label" not in bad.metadata


def test_a_text_cannot_smuggle_a_special_token(tmp_path: Path) -> None:
    nested = f"{TAG[:9]}{END}{TAG[9:]}"
    documents = documents_of(
        tmp_path, {"text": f"a{TAG} b", "title": f"t{END}"}, {"text": f"c {nested}d"}
    )
    assert [document.text for document in documents] == ["a b", "c d"]
    assert documents[0].metadata["title"] == "t"


def test_nested_special_tokens_are_removed_in_bounded_time(tmp_path: Path) -> None:
    for token in SPECIAL:
        depth = 200_000 // len(token)
        (document,) = documents_of(tmp_path, {"text": f"a{token[:-1] * depth}{token[-1] * depth}b"})
        assert (document.text[0], document.text[-1]) == ("a", "b")
        assert not [token for token in SPECIAL if token in document.text]


def test_a_text_of_special_tokens_alone_is_dropped(tmp_path: Path) -> None:
    texts, counts, reader = read_bytes(tmp_path, json.dumps({"text": f"{TAG} {END}"}).encode())
    assert (texts, counts) == ([], {"only_special_tokens": 1})
    assert reader.stats["special tokens removed"].total == 2


def test_files_are_found_in_folders_sorted_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a/z.jsonl", ".hidden.jsonl", ".git/c.jsonl", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("")
    # A set of so many names is in order once in 10^18.
    more = [f"c{number:02d}.jsonl" for number in range(20)]
    for name in more:
        (tmp_path / name).write_text("")
    names = [file.relative_to(tmp_path).as_posix() for file in files_of(tmp_path, "*.jsonl")]
    assert names == ["a/z.jsonl", "b.jsonl", *more]


def test_a_pattern_that_matches_nothing_lists_the_files(tmp_path: Path) -> None:
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


def test_a_linked_folder_is_named(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "pages").mkdir()
    (tmp_path / "pages/a.jsonl").write_bytes(ROWS[0])
    (tmp_path / "pages/more").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match="pages/more: is a link to a folder, which is not read"):
        files_of(tmp_path / "pages", "*.jsonl")
    (tmp_path / "pages/more").unlink()
    (tmp_path / "pages/b.jsonl").symlink_to(tmp_path / "pages/a.jsonl")
    assert len(files_of(tmp_path / "pages", "*.jsonl")) == 2


def test_a_name_that_is_not_utf8_is_named(tmp_path: Path) -> None:
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.jsonl")).write_bytes(ROWS[0])
    with pytest.raises(SourceError, match=r"caf\\udce9.jsonl': this name is not UTF-8"):
        files_of(tmp_path, "*")


def test_a_file_that_changes_while_it_is_read_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_bytes(ROWS[0])
    reader = reader_of("jsonl", tmp_path / "a.jsonl")
    (task,) = reader.tasks()
    (tmp_path / "a.jsonl").write_bytes(ROWS[1])
    with pytest.raises(SourceError, match="was changed"):
        list(reader.read(task))


KISSES = WordLists(
    explicit=frozenset({"embrace"}),
    sexual=frozenset({"kiss"}),
    minors=frozenset({"pupil"}),
    near=3,
    adult=18,
    mentions=2,
)
KISS = "A kiss for the pupil. "
# A text of so many words is long enough for one mention.
REST = "The sun went down behind the old mill. " * 100


def test_the_child_safety_filter_looks_at_near_words() -> None:
    words = KISSES
    assert not is_unsafe_for_children("a kiss for all of the class and a pupil", words)
    assert is_unsafe_for_children("a pupil's KISS", words)
    assert is_unsafe_for_children("the ｐｕｐｉｌ, a kiss", words)
    # Fast, too: the accents are no work that grows with their square.
    assert is_unsafe_for_children("a\u0301\u0316" * 100_000 + " the ｐｕｐｉｌ, a kiss", words)
    assert is_unsafe_for_children("a kiss, a 17-year-old", words) and is_unsafe_for_children(
        "17 year old kiss", words
    )
    assert not is_unsafe_for_children("a kiss, an 18-year-old", words)
    assert not is_unsafe_for_children("pupils kissed", words)


@pytest.mark.parametrize(
    "text",
    [
        KISS,
        KISS + REST[:2000],
        KISS * 2 + REST,
        KISS + REST[:3500] + KISS,
        REST * 9 + KISS * 2 + REST * 9,
        REST * 9 + "The embrace of a pupil. " + REST * 9,
        REST * 9 + "A kiss at 12 years. " + REST * 9,
        REST * 9 + "Her kiss, a 15-year-old. " + REST * 9,
        REST * 9 + "To embrace ｐｕｐｉｌｓ, a pupil. " + REST * 9,
    ],
    ids=range(9),
)
def test_texts_that_the_child_safety_filter_drops_at_any_length(text: str) -> None:
    assert is_unsafe_for_children(text, KISSES)


@pytest.mark.parametrize("text", [KISS + REST, KISS + REST * 2 + KISS, REST * 5 + KISS + REST * 5])
def test_one_mention_in_a_thousand_words_drops_no_document(text: str) -> None:
    assert not is_unsafe_for_children(text, KISSES)


@pytest.mark.parametrize("word", sorted(WordLists.read(GUARD).explicit))
def test_one_explicit_word_near_a_minor_drops_a_book(word: str) -> None:
    assert is_unsafe_for_children(f"{REST * 20} {word} child {REST * 20}", WordLists.read(GUARD))


def test_the_child_safety_filter_counts_what_it_drops_and_reads_the_prompt() -> None:
    turn = Document(
        text="Sex education begins at school.",
        id="a",
        metadata={"prompt": "What do children learn?"},
    )
    page = Document(
        text="Children learn to swim. " + "They play in the water. " * 3 + "Sex is a word.", id="b"
    )
    guard = ChildSafety(words=GUARD)
    assert list(guard.run([turn, page])) == [page] and guard.dropped == {"child_safety": 1}


def test_the_child_safety_filter_drops_hazards_that_the_source_names() -> None:
    pages = [
        Document(text="A page.", id=hazard, metadata={"hazard": hazard})
        for hazard in (*GUARDED, "privacy")
    ]
    guard = ChildSafety(words=GUARD)
    assert list(guard.run(pages)) == pages[-1:] and guard.dropped == {"child_safety": len(GUARDED)}


def test_the_first_of_equal_documents_stays() -> None:
    documents = [Document(text=text, id=text_digest(None, text)) for text in ("a", "b", "a", "a")]
    block = DropDuplicates()
    assert [document.text for document in block.run(documents)] == ["a", "b"] and block.dropped == {
        "duplicate": 2
    }


def test_the_embedded_world_is_a_source_with_labels() -> None:
    documents, reader = read(
        "demo", Path("specs/demo/benign/arithmetic.yaml"), source="arithmetic", prompt="prompt"
    )
    assert len(documents) == reader.rows_in > 0
    assert all(
        document.metadata["label"] == 0 and document.metadata["prompt"] for document in documents
    )
