"""HTML files, plain or gzip, one page each; a hundred of them make a task, for a page is too small
for a shard.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from datatrove.data import Document

from safelm.builder.blocks import Input, Task
from safelm.builder.digest import file_digest
from safelm.ingestion.base import ReadFiles, files_of
from safelm.ingestion.compression import UnreadableFile
from safelm.ingestion.decompress import segments
from safelm.ingestion.extract import LIBRARIES, TextExtractor, ExtractionError
from safelm.ingestion.http_page import decode_page
from safelm.ingestion.lines import SkippedBytes

PAGES = 100


@dataclass(kw_only=True, eq=False, repr=False)
class ReadPages(ReadFiles):
    """Text from HTML. The base of the readers of WARC and HTML files."""

    libraries: ClassVar[tuple[str, ...]] = LIBRARIES

    def __post_init__(self) -> None:
        super().__post_init__()
        self.extract = TextExtractor()

    def read(self, task: Task) -> Iterator[Document]:
        """The documents of a task; the extractor lives as long."""
        with self.extract:
            yield from super().read(task)

    def page(
        self,
        html: bytes,
        charset: str | None,
        known: dict[str, Any],
        name: str,
        offset: int,
        content: bytes | SkippedBytes,
    ) -> Iterator[Document]:
        """The document of one page. `known`: what the file says of it, before what the page says of
        itself.
        """
        text = decode_page(html, charset)
        if text is None:
            self.refuse("not_decodable", name, offset, content)
            return
        try:
            found = self.extract(text)
        except ExtractionError as error:
            self.refuse(error.reason, name, offset, content)
            return
        if not (found.get("text") or "").strip():
            self.drop("no_main_text")
            return
        yield from self.keep({**found, **known, self.text: found["text"]}, name, offset, content)


@dataclass(kw_only=True, eq=False, repr=False)
class ReadHtml(ReadPages):
    """One document per file; its address is the canonical one that the page names, its offset 0.

    Dropped: no_main_text, only_special_tokens. Quarantined: damaged, truncated, record_too_long,
    not_decodable, too_many_tags, too_slow, extraction_failed, document_too_long, expansion,
    unknown_packing."""

    name: ClassVar[str] = "html"

    def tasks(self) -> list[Task]:
        """One per hundred files, by name."""
        files = files_of(self.path, self.files)
        groups = [files[first : first + PAGES] for first in range(0, len(files), PAGES)]
        return [
            Task(
                f"{number:05d}",
                tuple(Input(file, file_digest(file)) for file in group),
                tuple(map(self.name_of, group)),
            )
            for number, group in enumerate(groups)
        ]

    def documents(self, path: Path, name: str) -> Iterator[Document]:
        """The page of a file."""
        html = b""
        for stretch in segments(path, self.max_expansion_ratio):
            if stretch.fault:
                raise UnreadableFile(stretch.fault)
            for block in stretch.blocks:
                html += block
                if len(html) > self.max_line_bytes:
                    raise UnreadableFile("record_too_long")
        yield from self.page(html, None, {}, name, 0, html)
