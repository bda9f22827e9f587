"""WARC and WET files, plain or packed: every record is a document, dropped by name, or quarantined
by reason.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datatrove.data import Document

from safelm.ingestion.base import ReadFiles
from safelm.ingestion.decompress import DAMAGED, segments
from safelm.ingestion.html import ReadPages
from safelm.ingestion.http_page import HTML, BadResponse, parse_response
from safelm.ingestion.warc_records import TOO_LONG, WarcRecord, records


def sound_records(
    reader: ReadFiles, path: Path, name: str, kind: str
) -> Iterator[tuple[WarcRecord, int]]:
    """The records of one type, each with its offset in the unpacked file; `reader` drops or
    quarantines the rest.
    """
    for stretch in segments(path, reader.max_expansion_ratio):
        offset, reason = stretch.offset, None
        for record in records(stretch.blocks, reader.max_line_bytes):
            offset = stretch.offset + record.offset
            reason = DAMAGED if stretch.fault == DAMAGED else record.fault
            if reason in (None, TOO_LONG) and record.header["warc-type"].lower() != kind:
                reader.drop(f"not_a_{kind}")
            elif reason == TOO_LONG and _is_other(record):
                reader.drop("not_html")
            elif reason:
                reader.refuse(reason, name, offset, record.content)
            else:
                yield record, offset
        if stretch.fault and reason != stretch.fault:  # what was lost with the fault is a row
            reader.refuse(stretch.fault, name, offset, b"")


def _is_other(record: WarcRecord) -> bool:
    """Whether the crawler says that a page is no HTML."""
    kind = record.header.get("warc-identified-payload-type", "").lower()
    return bool(kind) and kind not in HTML


def _known(record: WarcRecord) -> dict[str, Any]:
    """The address of a page and the day of the crawl."""
    url = record.header.get("warc-target-uri", "").removeprefix("<").removesuffix(">")
    return {
        name: value
        for name, value in (("url", url), ("crawl", record.header.get("warc-date", "")[:10]))
        if value
    }


@dataclass(kw_only=True, eq=False, repr=False)
class ReadWarc(ReadPages):
    """One document per response with HTML in it; an offset is that of the record in the unpacked
    file.

    Dropped: not_a_response, http_error (any status but 2xx), not_html, no_main_text,
    only_special_tokens. Quarantined: malformed_record, truncated, damaged, record_too_long,
    malformed_response, unknown_coding, expansion, not_decodable, too_many_tags, too_slow,
    extraction_failed, document_too_long, unknown_packing."""

    name: ClassVar[str] = "warc"

    def documents(self, path: Path, name: str) -> Iterator[Document]:
        """Every page of a file."""
        for record, offset in sound_records(self, path, name, "response"):
            try:
                yield from self._page(record, name, offset)
            except BadResponse as error:
                self.refuse(error.reason, name, offset, record.content)

    def _page(self, record: WarcRecord, name: str, offset: int) -> Iterator[Document]:
        answer = parse_response(record.body)
        if not 200 <= answer.status < 300:
            self.drop("http_error")
        elif _is_other(record) or not answer.is_html:
            self.drop("not_html")
        else:
            html = answer.content(self.max_line_bytes)
            yield from self.page(html, answer.charset, _known(record), name, offset, record.content)


@dataclass(kw_only=True, eq=False, repr=False)
class ReadWet(ReadFiles):
    """One document per conversion record, which holds text; an offset is that of the record in the
    unpacked file.

    Dropped: not_a_conversion, only_special_tokens. Quarantined: malformed_record, truncated,
    damaged, record_too_long, not_utf8, no_text, document_too_long, expansion, unknown_packing."""

    name: ClassVar[str] = "wet"

    def documents(self, path: Path, name: str) -> Iterator[Document]:
        """Every text of a file."""
        for record, offset in sound_records(self, path, name, "conversion"):
            try:
                text = record.body.decode()
            except UnicodeDecodeError:
                self.refuse("not_utf8", name, offset, record.content)
            else:
                yield from self.keep(
                    {self.text: text, **_known(record)}, name, offset, record.content
                )
