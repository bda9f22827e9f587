"""Small sources on disk, as `ingest` leaves them, for the tests of the stages that read them."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from datatrove.data import Document

from safelm.blocks import Reader, Task, WriteDocuments
from safelm.executor import run
from safelm.shards import text_digest


@dataclass(kw_only=True, eq=False, repr=False)
class Rows(Reader):
    """Rows that a test wrote down, in shards of one size."""

    table: Sequence[dict[str, Any]]
    size: int

    def tasks(self) -> list[Task]:
        starts = range(0, max(len(self.table), 1), self.size)
        return [Task(f"{start // self.size:05d}", (), (start,)) for start in starts]

    def read(self, task: Task) -> Iterator[Document]:
        (start,) = task.values
        for row in self.table[start : start + self.size]:
            rest = {name: value for name, value in row.items() if name != "text"}
            yield Document(text=row["text"], id=text_digest(row.get("prompt"), row["text"]), metadata=rest)


def ingested(folder: str, rows: Sequence[dict[str, Any]], size: int = 100) -> None:
    """Build build/<folder>, such as build/ingest/web, from rows of text, label, prompt and the like."""
    source = folder.rpartition("/")[2]
    run(folder, [Rows(table=[{"source": source, **row} for row in rows], size=size), WriteDocuments()])
