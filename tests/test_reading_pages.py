"""Readers of WARC, WET and HTML: every record is a page or is counted with a reason."""

import gzip
from io import BytesIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from safelm.ingestion.base import ReadSource
from safelm.ingestion.errors import ExtractionError
from safelm.ingestion.extract import TextExtractor
from safelm.ingestion.http_page import decode_page
from safelm.ingestion.registry import READERS
from tests.reading import MUTATION, TEXTS, UNTIMED, VALUES, read, read_bytes, reasons

PARAGRAPH = (
    "The gardener waters the tomatoes in the evening, because the sun would dry them at noon. " * 5
)


def warc(*pages: tuple[str, bytes, str], is_packed: bool = False) -> list[bytes]:
    """Write records of (type, payload, HTTP status line and header fields, or "" for no HTTP)."""
    parts = []
    for number, (kind, payload, http) in enumerate(pages):
        data = BytesIO()
        writer = WARCWriter(data, gzip=is_packed)
        status, _, fields = http.partition("\n")
        pairs = [tuple(line.split(": ", 1)) for line in fields.splitlines()]
        head = StatusAndHeaders(status, pairs, protocol="HTTP/1.1") if http else None
        dated = {"WARC-Date": "2024-04-25T01:02:03Z", "WARC-Record-ID": f"<urn:uuid:{number}>"}
        address = f"https://example.org/{number}"
        writer.write_record(
            writer.create_warc_record(
                address, kind, payload=BytesIO(payload), http_headers=head, warc_headers_dict=dated
            )
        )
        parts.append(data.getvalue())
    return parts


def html(number: int) -> bytes:
    title = f"<title>Page {number}</title>"
    body = f"<p>Page {number}. {PARAGRAPH}</p>"
    return f"<html><head>{title}</head><body>{body}</body></html>".encode()


OK = "200 OK\nContent-Type: text/html; charset=utf-8"


@pytest.mark.parametrize("is_packed", [False, True])
def test_every_record_of_a_warc_is_a_page_or_has_a_reason(tmp_path: Path, is_packed: bool) -> None:
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
        (
            "response",
            b"1f4\r\n" + html(11)[:500] + b"\r\n0\r\n\r\n",
            OK + "\nTransfer-Encoding: chunked",
        ),
        is_packed=is_packed,
    )
    texts, counts, reader = read_bytes(tmp_path, b"".join(data), "a.warc", "warc")
    assert [text[:8] for text in texts] == [
        "Page 2. ",
        "Page 6. ",
        "Page 8. ",
        "Page 9. ",
        "Page 11.",
    ]
    assert counts == {
        "not_a_response": 2,
        "http_error": 2,
        "not_html": 1,
        "no_main_text": 1,
        "unknown_coding": 1,
    }
    assert reader.rows_in == 12


def test_a_page_keeps_its_address_its_crawl_and_its_title(tmp_path: Path) -> None:
    (tmp_path / "a.warc").write_bytes(b"".join(warc(("response", html(0), OK))))
    (document,), _ = read("warc", tmp_path / "a.warc")
    assert (
        document.metadata["url"] == "https://example.org/0"
        and document.metadata["crawl"] == "2024-04-25"
    )
    assert (
        document.metadata["title"] == "Page 0" and document.text == f"Page 0. {PARAGRAPH}".strip()
    )


def texts_of_wet(
    tmp_path: Path, data: bytes, name: str = "a.wet"
) -> tuple[list[str], dict[str, int], ReadSource]:
    return read_bytes(tmp_path, data, name, "wet")


WET = warc(*(("conversion", text.encode(), "") for text in TEXTS))
PARTS = {
    "a.wet": WET,
    "a.wet.gz": warc(*(("conversion", text.encode(), "") for text in TEXTS), is_packed=True),
}
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
    texts, counts, reader = texts_of_wet(tmp_path, WET[0] + BAD_RECORDS[kind] + b"".join(WET[2:]))
    assert texts == TEXTS[:1] + TEXTS[2:] and sum(counts.values()) == 1
    assert set(counts) == {
        "record_too_long" if kind == "length beyond the limit" else "malformed_record"
    }
    assert reader.quarantined[0]["offset"] == len(WET[0])
    assert reader.quarantined[0]["bytes"] == len(BAD_RECORDS[kind])


def test_records_with_plain_line_feeds_are_read_when_their_lengths_are_right(
    tmp_path: Path,
) -> None:
    record = "WARC/1.0\nWARC-Type: conversion\nContent-Length: {}\n\n{}\n\n"
    good = [record.format(len(text.encode()), text) for text in ("one ü", "two")]
    data = good[0] + record.format(9, "a text that is longer") + good[1]
    texts, counts, _ = texts_of_wet(tmp_path, data.encode())
    assert texts == ["one ü", "two"] and counts == {"malformed_record": 1}


@pytest.mark.parametrize("name", PARTS)
@UNTIMED
@given(size=st.integers(1, 10**6))
def test_a_warc_that_was_cut_keeps_every_record_before(
    tmp_path: Path, name: str, size: int
) -> None:
    parts = PARTS[name]
    data = b"".join(parts)[: size % len(b"".join(parts))]
    ends = [len(b"".join(parts[: number + 1])) for number in range(len(parts))]
    whole = sum(end <= len(data) for end in ends)
    texts, counts, _ = texts_of_wet(tmp_path, data, name)
    assert texts[:whole] == TEXTS[:whole] and len(texts) <= whole + 1
    assert set(counts) <= {"truncated"}


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
    texts, counts, _ = texts_of_wet(tmp_path, WET[0] + b"".join(long) + WET[1])
    assert texts == TEXTS[:2] and counts == {"record_too_long": 1, "not_a_conversion": 1}


def test_a_bomb_in_a_response_is_refused(tmp_path: Path) -> None:
    bomb = gzip.compress(b"<p>" + b"a" * (4 << 20))
    data = warc(("response", bomb, OK + "\nContent-Encoding: gzip"), ("response", html(1), OK))
    texts, counts, _ = read_bytes(tmp_path, b"".join(data), "a.warc", "warc")
    assert len(texts) == 1 and counts == {"expansion": 1}


def test_text_that_is_not_utf8_is_quarantined(tmp_path: Path) -> None:
    data = warc(
        ("conversion", b"caf\xe9", ""), ("conversion", b" \n", ""), ("conversion", b"good", "")
    )
    assert texts_of_wet(tmp_path, b"".join(data))[:2] == (["good"], {"not_utf8": 1, "no_text": 1})


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
        (
            "<p>Le garçon a mangé à la cantine, où l'été est gai. Où était-il né ?".encode(
                "cp1252"
            ),
            None,
        ),
        (
            "<p>The word garçon is in a page of plain letters, and says nothing.".encode("cp1252"),
            None,
        ),
        ("<p>garçon".encode() + b"\xff" + ("é" * 20).encode(), "utf-8"),  # one byte is wrong
    ],
)
def test_a_page_is_decoded(content: bytes, charset: str | None) -> None:
    assert "garçon" in (decode_page(content, charset) or "")


def test_only_encodings_of_pages_are_used() -> None:
    text = "<p>日本語のページ"
    assert decode_page(text.encode("iso2022_jp"), "iso-2022-jp") == text
    assert decode_page(b"<p>\xff\x81\x8d", "unicode_escape") is None
    assert decode_page(bytes(range(128, 256)), "no such") is None


def test_html_files_are_pages_with_their_own_address(tmp_path: Path) -> None:
    folder = tmp_path / "pages"
    folder.mkdir()
    (folder / "a.html").write_bytes(
        b'<link rel="canonical" href="https://example.org/a">' + html(1)
    )
    (folder / "b.html.gz").write_bytes(gzip.compress(html(2)))
    (folder / "c.html").write_bytes(b"")
    (folder / "d.html.gz").write_bytes(gzip.compress(html(2))[:-20])
    (folder / "e.html").write_bytes(b"<p>" * (1 << 19))
    documents, reader = read("html", folder)
    assert [document.metadata.get("url") for document in documents] == [
        "https://example.org/a",
        None,
    ]
    assert reasons(reader) == {"no_main_text": 1, "truncated": 1, "record_too_long": 1}


def test_html_files_share_a_task(tmp_path: Path) -> None:
    for number in range(101):
        (tmp_path / f"{number:03d}.html").write_bytes(html(number))
    first, second = READERS["html"](path=tmp_path, **VALUES).tasks()
    assert len(first.inputs) == 100 and second.values == ("100.html",)


def test_a_page_that_takes_too_long_is_stopped_and_the_next_is_read() -> None:
    with TextExtractor() as extract:
        assert extract(html(1).decode())["title"] == "Page 1"
        extract.seconds = 0.2
        with pytest.raises(ExtractionError, match="too_slow"):
            extract("<p " + " ".join(f'a{number}="1"' for number in range(60_000)) + ">text")
        extract.seconds = 60.0
        assert extract(html(2).decode())["title"] == "Page 2"


def test_a_page_with_too_many_tags_is_refused() -> None:
    with TextExtractor() as extract, pytest.raises(ExtractionError, match="too_many_tags"):
        extract("<b>a" * 200_000)


def test_a_page_gives_the_same_text_after_any_other_page() -> None:
    pages = [html(number).decode().replace(f"Page {number}.", "Page.") for number in range(6)]
    with TextExtractor() as extract:
        texts = [extract(page)["text"] for page in pages]
    assert texts == [texts[0]] * 6 and "tomatoes" in texts[0]


def test_an_odd_colspan_does_not_lose_the_page() -> None:
    table = '<table><tr><td colspan="1.5">a</td><td colspan="99999999999">b</td></tr></table>'
    with TextExtractor() as extract:
        assert "tomatoes" in extract(f"<body>{table}<p>{PARAGRAPH}</p>{table}</body>")["text"]
