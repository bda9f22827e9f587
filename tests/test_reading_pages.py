"""Readers of WARC, WET and HTML: every record is a page or is counted with a reason."""

import base64
import gzip
import hashlib
from io import BytesIO
from pathlib import Path
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from warcio.statusandheaders import StatusAndHeaders
from warcio.warcwriter import WARCWriter

from safelm.ingestion.base import ReadSource
from safelm.ingestion.errors import ExtractionError
from safelm.ingestion.extract import TextExtractor
from safelm.ingestion.extract_worker import EXTRACTORS
from safelm.ingestion.http_page import decode_page
from tests.reading import MUTATION, TEXTS, UNTIMED, read, read_bytes, reader_of, reasons

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
        ("response", b"\x8b\x00", OK + "\nContent-Encoding: compress"),
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


def pages_of(tmp_path: Path, *pages: tuple[str, bytes, str]) -> tuple[list[str], dict[str, int]]:
    """Return the first words of the pages in a WARC of these records, and the other reasons."""
    texts, counts, _ = read_bytes(tmp_path, b"".join(warc(*pages)), "a.warc", "warc")
    return [text[:7] for text in texts], counts


PACKERS = {"br": brotli.compress, "zstd": zstandard.compress, "gzip": gzip.compress}


@pytest.mark.parametrize("coding", PACKERS)
def test_a_packed_body_is_unpacked_and_one_that_was_cut_is_quarantined(
    tmp_path: Path, coding: str
) -> None:
    fields = f"{OK}\nContent-Encoding: {coding}"
    whole = PACKERS[coding](html(1) + b"<p>the end</p>")
    pages = ("response", whole, fields), ("response", whole[:-20], fields)
    assert pages_of(tmp_path, *pages) == (["Page 1."], {"damaged_body": 1})


def test_a_chunked_body_that_was_cut_is_quarantined(tmp_path: Path) -> None:
    fields = f"{OK}\nTransfer-Encoding: chunked"
    chunk = b"%x\r\n%b\r\n" % (len(html(1)), html(1))
    pages = (
        ("response", chunk + b"0\r\n\r\n", fields),
        ("response", chunk, fields),
        ("response", chunk[:300], fields),
        ("response", html(2), fields),  # the crawler undid the chunks
    )
    assert pages_of(tmp_path, *pages) == (["Page 1.", "Page 2."], {"damaged_body": 2})


def test_a_page_that_the_crawler_cut_is_dropped(tmp_path: Path) -> None:
    (record,) = warc(("response", html(1), OK))
    data = record.replace(b"WARC-Date", b"WARC-Truncated: length\r\nWARC-Date")
    assert read_bytes(tmp_path, data, "a.warc", "warc")[:2] == ([], {"cut_by_crawler": 1})


def test_records_that_hold_no_web_page_are_dropped_by_name(tmp_path: Path) -> None:
    answer = b"20240425010203\nexample.org. 300 IN A 192.0.2.1\n"
    dns, log = warc(("resource", answer, ""), ("resource", b"a log of wget", ""))
    dns = dns.replace(b": resource", b": response").replace(b"application/warc-record", b"text/dns")
    assert b"WARC-Type: response" in dns and b"text/dns" in dns
    texts, counts, _ = read_bytes(tmp_path, dns + log, "a.warc", "warc")
    assert texts == [] and counts == {"not_http": 1, "not_html": 1}


def test_a_resource_is_a_page_without_http(tmp_path: Path) -> None:
    (record,) = warc(("resource", html(1), ""))
    kind = record.split(b"Content-Type: ")[1].split(b"\r\n")[0]
    data = record.replace(kind, b"text/html; charset=utf-8")
    texts, counts, _ = read_bytes(tmp_path, data, "a.warc", "warc")
    assert texts[0].startswith("Page 1.") and counts == {}


HEADS = {
    "twice": (b"", "200 OK\nContent-Type: text/html, text/html"),
    "none, mark": (b"\xef\xbb\xbf", "200 OK\nServer: x"),
    "none, space": (b" \r\n", "200 OK\nServer: x"),
}


@pytest.mark.parametrize("kind", HEADS)
def test_a_page_whose_type_is_odd_is_read(tmp_path: Path, kind: str) -> None:
    start, fields = HEADS[kind]
    assert pages_of(tmp_path, ("response", start + html(1), fields)) == (["Page 1."], {})


@pytest.mark.parametrize("start", [b"<title>A</title>", b"<TITLE>A</TITLE>", b"<p>", b"<h1>A</h1>"])
def test_a_page_without_a_type_is_known_by_its_first_tag(tmp_path: Path, start: bytes) -> None:
    body = start + html(1).partition(b"<body>")[2]
    texts, counts = pages_of(tmp_path, ("response", body, "200 OK\nServer: x"))
    assert counts == {} and len(texts) == 1
    script = b"for (let i = 0; i < 3; i++) document.write('<p>a</p>')"
    assert pages_of(tmp_path, ("response", script, "200 OK\nServer: x")) == ([], {"not_html": 1})


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


@pytest.mark.parametrize("lost", range(0, 60, 3))
def test_a_record_behind_one_that_lost_its_end_is_read(tmp_path: Path, lost: int) -> None:
    # The length of the first record ends anywhere in the second, also where a record may end.
    first, second, third = warc(*(("conversion", b"a" * size, "") for size in (900, 40, 50)))
    body = len(second) - 4 - lost
    cut = first.replace(b"a" * 900, b"a" * 20).replace(b"th: 900", b"th: %d" % (20 + 4 + body))
    texts, counts, _ = texts_of_wet(tmp_path, cut + second + third)
    assert texts == ["a" * 40, "a" * 50] and counts == {"malformed_record": 1}


def test_a_page_about_warc_is_one_page(tmp_path: Path) -> None:
    text = b"A header is\n\nWARC/1.0\nWARC-Type: conversion\nContent-Length: 3\n\nabc\n\nand so on"
    (record,) = warc(("conversion", text, ""))
    digest = base64.b32encode(hashlib.sha1(text).digest())
    assert b"WARC-Block-Digest: sha1:" + digest in record
    assert texts_of_wet(tmp_path, record)[:2] == ([text.decode()], {})


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_file_in_arc_is_named_as_such(tmp_path: Path, pack: Any) -> None:
    head = b"filedesc://a.arc 0.0.0.0 20010101000000 text/plain 77\n1 0 Alexa Internet\n"
    data = pack(head + b"http://example.org/ 192.0.2.1 20010101000000 text/html 200\n")
    assert texts_of_wet(tmp_path, data)[:2] == ([], {"arc_file": 1})


@pytest.mark.parametrize("is_packed", [False, True])
def test_a_zstd_archive_brings_its_dictionary(tmp_path: Path, is_packed: bool) -> None:
    words = zstandard.train_dictionary(4096, WET * 20)
    packed = zstandard.compress(words.as_bytes()) if is_packed else words.as_bytes()
    frame = b"\x5d\x2a\x4d\x18" + len(packed).to_bytes(4, "little") + packed
    packer = zstandard.ZstdCompressor(dict_data=words)
    data = frame + b"".join(packer.compress(record) for record in WET)
    assert texts_of_wet(tmp_path, data, "a.warc.wet.zst")[:2] == (TEXTS, {})
    alone = data[len(frame) :]
    assert texts_of_wet(tmp_path, alone, "a.wet.zst")[:2] == ([], {"unknown_packing": 1})


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


WORDS = {
    "euc_jp": "庭師は夕方にトマトに水をやります。昼の日差しでは乾いてしまうからです。",
    "gb18030": "园丁在傍晚给西红柿浇水，因为中午的阳光会把它们晒干。",
    "cp1251": "Садовник поливает помидоры вечером, потому что днём солнце их высушит.",
    "cp1253": "Ο κηπουρός ποτίζει τις ντομάτες το βράδυ, γιατί το μεσημέρι ξεραίνονται.",
}


@pytest.mark.parametrize("encoding", WORDS)
@pytest.mark.parametrize("declared", ["iso-8859-1", "windows-1252", "ascii"])
def test_letters_tell_an_encoding_that_is_declared_wrong(encoding: str, declared: str) -> None:
    page = f"<html><head><title>page</title></head><body><p>{WORDS[encoding] * 4}</p></body></html>"
    assert decode_page(page.encode(encoding), declared) == page


def test_western_pages_stay_as_declared() -> None:
    pages = (
        "<p>Le garçon a mangé à la cantine, où l'été est gai. Où était-il né ?",
        "<p>Größere Übungen für Anfänger: Ärger, Öl, Straße, Mädchen, Füße.",
        "<p>\xa0\xa0\xa0\xa0\xa0\xa0“Quotes”…—\xa0\xa0and dashes—— «\xa0été\xa0»",
        "<p>¿Qué pasó? ¡Mañana! El niño comió piñones en la montaña, según él.",
    )
    for page in pages:
        assert decode_page((page * 5).encode("cp1252"), "iso-8859-1") == page * 5


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
    tasks = reader_of("html", tmp_path).tasks()
    assert len(tasks) < 5
    assert [name for task in tasks for name in task.values] == [f"{n:03d}.html" for n in range(101)]


def test_a_file_less_changes_one_task(tmp_path: Path) -> None:
    for number in range(600):
        (tmp_path / f"{number:03d}.html").write_bytes(b"%d" % number)
    before = [task.inputs for task in reader_of("html", tmp_path).tasks()]
    (tmp_path / "007.html").unlink()
    after = [task.inputs for task in reader_of("html", tmp_path).tasks()]
    assert len(before) > 3 and len(set(after) - set(before)) <= 1
    assert sum(map(len, after)) == 599


def test_a_script_is_no_document(tmp_path: Path) -> None:
    for name in ("a.js", "a.css.gz", "a.json", "a.png"):
        data = b"/* " + PARAGRAPH.encode() + b" */ document.write('<p>a</p>');"
        (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    for name in ("page", "page.php", "page.HTM"):
        (tmp_path / name).write_bytes(html(len(name)))
    documents, reader = read("html", tmp_path)
    assert len(documents) == 3 and reasons(reader) == {"not_html": 4}


@pytest.mark.parametrize("control", ["\x02", "\x0b", "\ufffe", "&#1;", "&#x0B;", "&#00031;"])
def test_a_control_character_does_not_lose_the_page(tmp_path: Path, control: str) -> None:
    page = html(1).decode().replace("tomatoes", f"toma{control}toes &#169;")
    texts, counts, _ = read_bytes(tmp_path, page.encode(), "a.html", "html")
    assert counts == {} and texts[0].startswith("Page 1. The gardener waters the toma toes ©")


@pytest.mark.parametrize("extractor", EXTRACTORS)
def test_every_extractor_finds_the_text_the_title_and_the_address(
    tmp_path: Path, extractor: str
) -> None:
    link = b'<head><link rel="canonical" href="https://example.org/a">'
    data = html(1).replace(b"<head>", link).replace(b"Page 1<", b"\nPage  1 <")
    (tmp_path / "a.html").write_bytes(data)
    (document,), reader = read("html", tmp_path, extractor=extractor)
    assert document.text.strip() == f"Page 1. {PARAGRAPH}".strip()
    assert document.metadata["title"] == "Page 1"
    assert document.metadata["url"] == "https://example.org/a"
    assert extractor in str(reader.declared())


def test_a_page_that_takes_too_long_is_stopped_and_the_next_is_read() -> None:
    with TextExtractor("trafilatura") as extract:
        assert extract(html(1).decode())["title"] == "Page 1"
        extract.seconds = 0.2
        with pytest.raises(ExtractionError, match="too_slow"):
            extract("<p " + " ".join(f'a{number}="1"' for number in range(60_000)) + ">text")
        extract.seconds = 60.0
        assert extract(html(2).decode())["title"] == "Page 2"


def test_a_page_with_too_many_tags_is_refused() -> None:
    with (
        TextExtractor("trafilatura") as extract,
        pytest.raises(ExtractionError, match="too_many_tags"),
    ):
        extract("<b>a" * 200_000)


def test_a_page_gives_the_same_text_after_any_other_page() -> None:
    pages = [html(number).decode().replace(f"Page {number}.", "Page.") for number in range(6)]
    with TextExtractor("trafilatura") as extract:
        texts = [extract(page)["text"] for page in pages]
    assert texts == [texts[0]] * 6 and "tomatoes" in texts[0]


def test_an_odd_colspan_does_not_lose_the_page() -> None:
    table = '<table><tr><td colspan="1.5">a</td><td colspan="99999999999">b</td></tr></table>'
    with TextExtractor("trafilatura") as extract:
        assert "tomatoes" in extract(f"<body>{table}<p>{PARAGRAPH}</p>{table}</body>")["text"]
