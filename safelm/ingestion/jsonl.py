"""JSON lines, plain, gzip or zstd: read as bytes, so that one bad line costs one line (faults.md
F7).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import orjson
from datatrove.data import Document

from safelm.ingestion.base import ReadFiles
from safelm.ingestion.decompress import DAMAGED, TRUNCATED, Segment, segments
from safelm.ingestion.lines import Line, SkippedBytes, lines

BOM = b"\xef\xbb\xbf"
UTF16 = (b"\xff\xfe", b"\xfe\xff")


@dataclass(kw_only=True, eq=False, repr=False)
class ReadJsonl(ReadFiles):
    """One document a line. An offset is that of the line's first byte in the unpacked file.

    Dropped: blank_line, only_special_tokens. Quarantined: not_utf8, not_json, not_an_object,
    no_text, no_prompt, line_too_long, document_too_long, truncated, damaged, expansion,
    unknown_packing."""

    name: ClassVar[str] = "jsonl"
    libraries: ClassVar[tuple[str, ...]] = ("orjson", "zstandard")

    def documents(self, path: Path, name: str) -> Iterator[Document]:
        """Every line of a file."""
        is_utf16 = False
        for stretch in segments(path, self.max_expansion_ratio):
            for line in lines(stretch.blocks, self.max_line_bytes):
                offset = stretch.offset + line.offset
                content = line.content
                if isinstance(content, bytes):
                    is_utf16 = content.startswith(UTF16) if offset == 0 else is_utf16
                    content = content.removeprefix(
                        BOM
                    )  # in the middle too: files that have one get joined
                reason = self._reason_of_line(stretch, line, content, is_utf16)
                if reason:
                    self.refuse(reason, name, offset, content)
                elif isinstance(content, bytes) and content.strip():
                    yield from self._document(content, name, offset, line.has_ended)
                elif line.has_ended:
                    self.drop("blank_line")

    def _reason_of_line(
        self, stretch: Segment, line: Line, content: bytes | SkippedBytes, is_utf16: bool
    ) -> str | None:
        """Why a line cannot be looked into. A faulty stretch has one row at least: what was lost
        with the fault.
        """
        if stretch.fault == DAMAGED and (line.has_ended or content or not line.offset):
            return DAMAGED
        if stretch.fault == TRUNCATED and not line.has_ended:
            return TRUNCATED
        if isinstance(content, SkippedBytes):
            return "line_too_long"
        return "not_utf8" if is_utf16 and content else None

    def _document(
        self, content: bytes, name: str, offset: int, has_ended: bool
    ) -> Iterator[Document]:
        try:
            row = orjson.loads(content)
        except orjson.JSONDecodeError:
            self.refuse(_fault(content) if has_ended else TRUNCATED, name, offset, content)
            return
        if isinstance(row, dict):
            yield from self.keep(row, name, offset, content)
        else:
            self.refuse("not_an_object", name, offset, content)


def _fault(content: bytes) -> str:
    try:
        content.decode()
    except UnicodeDecodeError:
        return "not_utf8"
    return "not_json"
