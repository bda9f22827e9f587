"""HTML files, plain or gzip, one page each; a hundred of them make a task, for a page is too small for a shard."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from datatrove.data import Document

from safelm.blocks import Input, Task
from safelm.digest import file_digest
from safelm.reading.member import Unreadable
from safelm.reading.pages import ReadPages
from safelm.reading.source import files_of
from safelm.reading.unpack import stretches

PAGES = 100


@dataclass(kw_only=True, eq=False, repr=False)
class ReadHtml(ReadPages):
    """One document per file; its address is the canonical one that the page names, its offset 0.

    Dropped: no_main_text, only_special_tokens. Quarantined: damaged, truncated, record_too_long, not_decodable,
    too_many_tags, too_slow, extraction_failed, document_too_long, expansion, unknown_packing.
    """

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
        for stretch in stretches(path, self.expansion):
            if stretch.fault:
                raise Unreadable(stretch.fault)
            for block in stretch.blocks:
                html += block
                if len(html) > self.line_bytes:
                    raise Unreadable("record_too_long")
        yield from self.page(html, None, {}, name, 0, html)
