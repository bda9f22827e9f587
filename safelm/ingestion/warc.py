"""The readers of WARC and WET files, plain or compressed.

An offset is that of the record in the decompressed file.
"""

from collections.abc import Iterator
from pathlib import Path

from safelm.builder.blocks import Documents
from safelm.ingestion.base import Origin, ReadFiles
from safelm.ingestion.decompress import DAMAGED, segments
from safelm.ingestion.errors import BadResponse
from safelm.ingestion.html import ReadPages
from safelm.ingestion.http_page import HTML, Response, content_type, is_html, parse_response
from safelm.ingestion.warc_records import TOO_LONG, WarcRecord, records


def records_of_type(
    reader: ReadFiles, path: Path, name: str, *kinds: str
) -> Iterator[tuple[WarcRecord, Origin]]:
    """Yield the valid records of some types; `reader` drops or quarantines the others."""
    for segment in segments(path, reader.max_expansion_ratio):
        reason = None
        offset = segment.offset
        for record in records(segment.blocks, reader.max_line_bytes):
            offset = segment.offset + record.offset
            origin = Origin(name, offset, record.content)
            reason = DAMAGED if segment.fault == DAMAGED else record.fault
            # A record that was too long still has its header.
            if reason in (None, TOO_LONG) and record.header["warc-type"].lower() not in kinds:
                reader.drop(f"not_a_{kinds[0]}")
            elif reason == TOO_LONG and _is_other(record):
                reader.drop("not_html")
            elif reason:
                reader.quarantine_row(reason, origin)
            else:
                yield record, origin
        if segment.fault and reason != segment.fault:
            # One row stands for the bytes that were lost.
            reader.quarantine_row(segment.fault, Origin(name, offset))


def _is_other(record: WarcRecord) -> bool:
    """Return whether the crawler identified a page as something other than HTML."""
    kind = record.header.get("warc-identified-payload-type", "").lower()
    return bool(kind) and kind not in HTML


def _metadata(record: WarcRecord) -> dict[str, str]:
    """Return the URL of a page and the day of the crawl, if they are known."""
    # wget writes the URL in angle brackets.
    url = record.header.get("warc-target-uri", "").removeprefix("<").removesuffix(">")
    day = record.header.get("warc-date", "")[:10]
    values = {"url": url, "crawl": day}
    return {name: value for name, value in values.items() if value}


class ReadWarc(ReadPages):
    """Read one document per response that holds HTML.

    A `resource` record is a page without HTTP, as wget and archives of mail write them.

    Dropped: not_a_response, not_http (such as the DNS answers of Heritrix), http_error (any status
    but 2xx), not_html, cut_by_crawler, no_main_text, only_special_tokens. Quarantined:
    malformed_record, truncated, damaged, record_too_long, arc_file, malformed_response,
    damaged_body, unknown_coding, expansion, not_decodable, too_many_tags, too_slow,
    extraction_failed, document_too_long, unknown_packing.
    """

    name = "warc"

    def documents(self, path: Path, name: str) -> Documents:
        """Yield the document of every page."""
        for record, origin in records_of_type(self, path, name, "response", "resource"):
            try:
                yield from self._page(record, origin)
            except BadResponse as error:
                self.quarantine_row(error.reason, origin)

    def _page(self, record: WarcRecord, origin: Origin) -> Documents:
        response = _response(record)
        if response is None:
            self.drop("not_http")
        elif not 200 <= response.status < 300:
            self.drop("http_error")
        elif _is_other(record) or response.kind not in ("", *HTML):
            self.drop("not_html")
        elif "warc-truncated" in record.header:
            self.drop("cut_by_crawler")
        else:
            html = response.content(self.max_line_bytes)
            if is_html(response.kind, html):
                yield from self.page(html, response.charset, _metadata(record), origin)
            else:
                self.drop("not_html")


def _response(record: WarcRecord) -> Response | None:
    """Return the page in a record, or None for the answer of another protocol, such as DNS."""
    kind, charset = content_type(record.header.get("content-type", ""))
    if record.header["warc-type"].lower() == "resource":
        return Response(200, kind, charset, "", record.body)
    return parse_response(record.body) if kind in ("", "application/http") else None


class ReadWet(ReadFiles):
    """Read one document per conversion record, which holds text.

    Dropped: not_a_conversion, only_special_tokens. Quarantined: malformed_record, truncated,
    damaged, record_too_long, arc_file, not_utf8, no_text, document_too_long, expansion,
    unknown_packing.
    """

    name = "wet"

    def documents(self, path: Path, name: str) -> Documents:
        """Yield the document of every text."""
        for record, origin in records_of_type(self, path, name, "conversion"):
            try:
                text = record.body.decode()
            except UnicodeDecodeError:
                self.quarantine_row("not_utf8", origin)
            else:
                row = {self.text: text, **_metadata(record)}
                yield from self.make_document(row, origin)
