"""The reader of JSON lines, plain or compressed.

Lines are split as bytes. Decoding a whole file at once would lose the rest of it to one bad byte.
"""

import json
from pathlib import Path
from typing import Any

import orjson

from safelm.builder.blocks import Documents
from safelm.ingestion.base import Origin, ReadFiles
from safelm.ingestion.decompress import DAMAGED, TRUNCATED, Segment, segments
from safelm.ingestion.lines import Line, SkippedBytes, lines

BOM = b"\xef\xbb\xbf"
UTF16 = (b"\xff\xfe", b"\xfe\xff")


class ReadJsonl(ReadFiles):
    """Read one document a line; an offset is that of the line's first byte in the unpacked file.

    Dropped: blank_line, only_special_tokens. Quarantined: not_utf8, not_json, not_an_object,
    no_text, no_prompt, line_too_long, document_too_long, truncated, damaged, expansion,
    unknown_packing.
    """

    name = "jsonl"
    libraries = ("orjson", "zstandard")

    def documents(self, path: Path, name: str) -> Documents:
        """Yield the document of every line."""
        is_utf16 = False
        for segment in segments(path, self.max_expansion_ratio):
            for line in lines(segment.blocks, self.max_line_bytes):
                offset = segment.offset + line.offset
                content = line.content
                if isinstance(content, bytes):
                    if offset == 0:
                        is_utf16 = content.startswith(UTF16)
                    # Also within a file, because files that begin with a mark may have been joined.
                    content = content.removeprefix(BOM)
                origin = Origin(name, offset, content)
                reason = _unreadable(segment, line, content, is_utf16)
                if reason:
                    self.quarantine_row(reason, origin)
                elif isinstance(content, bytes) and content.strip():
                    yield from self._document(content, origin, line.has_ended)
                elif line.has_ended:
                    self.drop("blank_line")

    def _document(self, content: bytes, origin: Origin, has_ended: bool) -> Documents:
        try:
            row = _parse(content)
        except (ValueError, RecursionError):
            self.quarantine_row(_fault(content) if has_ended else TRUNCATED, origin)
            return
        if isinstance(row, dict):
            yield from self.make_document(row, origin)
        else:
            self.quarantine_row("not_an_object", origin)


def _parse(content: bytes) -> Any:
    """Parse a line; raise ValueError or RecursionError if it is no JSON."""
    try:
        return orjson.loads(content)
    except orjson.JSONDecodeError:
        # json accepts NaN and half surrogate pairs, which may be in a field that is not read.
        return json.loads(content.decode())


def _unreadable(
    segment: Segment, line: Line, content: bytes | SkippedBytes, is_utf16: bool
) -> str | None:
    """Return the reason why a line cannot be parsed, or None."""
    # A damaged segment has at least one row, for what was lost with the damage.
    if segment.fault == DAMAGED and (line.has_ended or content or not line.offset):
        return DAMAGED
    if segment.fault == TRUNCATED and not line.has_ended:
        return TRUNCATED
    if isinstance(content, SkippedBytes):
        return "line_too_long"
    return "not_utf8" if is_utf16 and content else None


def _fault(content: bytes) -> str:
    try:
        content.decode()
    except UnicodeDecodeError:
        return "not_utf8"
    return "not_json"
