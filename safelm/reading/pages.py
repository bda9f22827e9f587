"""What the readers of HTML share: a page goes through one extractor, and what gives no text has a name."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

from datatrove.data import Document

from safelm.blocks import Task
from safelm.reading.extract import LIBRARIES, Extract, ExtractionError
from safelm.reading.lines import Skipped
from safelm.reading.page import decode
from safelm.reading.source import ReadFiles


@dataclass(kw_only=True, eq=False, repr=False)
class ReadPages(ReadFiles):
    """Text from HTML. The base of the readers of WARC and HTML files."""

    libraries: ClassVar[tuple[str, ...]] = LIBRARIES

    def __post_init__(self) -> None:
        super().__post_init__()
        self.extract = Extract()

    def read(self, task: Task) -> Iterator[Document]:
        """The documents of a task; the extractor lives as long."""
        with self.extract:
            yield from super().read(task)

    def page(
        self, html: bytes, charset: str | None, known: dict[str, Any], name: str, offset: int, content: bytes | Skipped
    ) -> Iterator[Document]:
        """The document of one page. `known`: what the file says of it, before what the page says of itself."""
        text = decode(html, charset)
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
