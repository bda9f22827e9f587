"""The reader of HTML files, and the base that it shares with the reader of WARC files."""

import re
from mimetypes import MimeTypes
from pathlib import Path
from zlib import crc32

from safelm.builder.blocks import Documents, Task
from safelm.ingestion.base import Origin, ReadFiles, file_task, files_of
from safelm.ingestion.decompress import segments
from safelm.ingestion.errors import ExtractionError, UnreadableFile
from safelm.ingestion.extract import LIBRARIES, TextExtractor
from safelm.ingestion.http_page import HTML, decode_page
from safelm.ingestion.metadata import Row

# Control characters that XML cannot have, also as references. With one of them in a paragraph lxml
# gives up the whole page.
CONTROL = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]"
    "|&#(?:0*(?:[0-8]|1[124-9]|2[0-9]|3[01])|[xX]0*(?:[0-8bceBCEfF]|1[0-9a-fA-F]))(?:;|(?![0-9a-fA-F]))"
)
# Pages of a task in the mean, because one page is too small for a shard.
PAGES = 100
# The media types of file names by Python's own table, not by that of the machine.
TYPES = MimeTypes()


class ReadPages(ReadFiles):
    """Read text from HTML; the base of the readers of WARC and HTML files."""

    libraries = LIBRARIES
    extractor: str

    def __post_init__(self) -> None:
        super().__post_init__()
        self.extract = TextExtractor(self.extractor)

    def read(self, task: Task) -> Documents:
        """Yield the documents of a task; the extractor's process ends with it."""
        with self.extract:
            yield from super().read(task)

    def page(
        self,
        html: bytes,
        charset: str | None,
        metadata: Row,
        origin: Origin,
    ) -> Documents:
        """Yield the document of one page; `metadata` comes before what the page itself declares."""
        text = decode_page(html, charset)
        if text is None:
            self.quarantine_row("not_decodable", origin)
            return
        try:
            page = self.extract(CONTROL.sub(" ", text))
        except ExtractionError as error:
            self.quarantine_row(error.reason, origin)
            return
        main_text = page.get("text") or ""
        if not main_text.strip():
            self.drop("no_main_text")
            return
        yield from self.make_document({**page, **metadata, self.text: main_text}, origin)


class ReadHtml(ReadPages):
    """Read one document per file; its address is the canonical one that the page names.

    Dropped: not_html (by the file's name, such as a.js), no_main_text, only_special_tokens.
    Quarantined, all with the offset 0: damaged, truncated, record_too_long, not_decodable,
    too_many_tags, too_slow, extraction_failed, document_too_long, expansion, unknown_packing.
    """

    name = "html"

    def tasks(self) -> list[Task]:
        """List tasks of some hundred files each, by name.

        The name of a file alone says whether a task ends with it. So a file more or less changes no
        other task.
        """
        groups: list[list[Path]] = [[]]
        for file in files_of(self.path, self.files):
            groups[-1].append(file)
            if crc32(self.name_of(file).encode()) % PAGES == 0:
                groups.append([])
        return [
            file_task(number, group, *map(self.name_of, group))
            for number, group in enumerate(filter(None, groups))
        ]

    def documents(self, path: Path, name: str) -> Documents:
        """Yield the page of a file."""
        kind, _ = TYPES.guess_type(path.name)
        if kind not in (None, *HTML):
            self.drop("not_html")
            return
        html = b""
        for segment in segments(path, self.max_expansion_ratio):
            if segment.fault:
                raise UnreadableFile(segment.fault)
            for block in segment.blocks:
                html += block
                if len(html) > self.max_line_bytes:
                    raise UnreadableFile("record_too_long")
        yield from self.page(html, None, {}, Origin(name, 0, html))
