"""The blocks that drop exact duplicates: inside a file, and what repeats documents of an earlier file."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from datatrove.data import Document

from safelm.blocks import Block, Reader, Task, documents_of
from safelm.shards import Shard

DUPLICATE = "duplicate"


@dataclass(kw_only=True, eq=False, repr=False)
class DropDuplicates(Block):
    """Drop, as duplicate, every document whose id came before in the same task. Ids alone are kept in memory."""

    type: ClassVar[str] = "filter"
    name: ClassVar[str] = "duplicates"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: set[bytes] = set()

    def each(self, document: Document) -> Iterator[Document]:
        """Pass on a document whose id is new."""
        key = bytes.fromhex(document.id)
        if key in self.seen:
            self.drop(DUPLICATE)
        else:
            self.seen.add(key)
            yield document


@dataclass(kw_only=True, eq=False, repr=False)
class ReadAgain(Reader):
    """Read shards that were made a moment ago, and drop, as duplicate, the documents that the task's values name."""

    name: ClassVar[str] = "shards again"
    again: list[Task] = field(metadata={"key": False})

    def tasks(self) -> list[Task]:
        """Those given."""
        return self.again

    def read(self, task: Task) -> Iterator[Document]:
        """Every document that is not a repeat."""
        repeats = pa.array(task.values, pa.string())
        for item in task.inputs:
            for part in Shard(item.path, 0, item.sha256).parts():
                kept = part.filter(pc.invert(pc.is_in(part["id"], repeats)))
                self.drop(DUPLICATE, part.num_rows - kept.num_rows)
                yield from documents_of(kept)
