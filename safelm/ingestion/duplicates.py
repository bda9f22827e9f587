"""Blocks that drop exact duplicates.

They are apart from dedup.py, which runs stages: the executor shapes no byte, and must not enter the
keys of the shards that these blocks make.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from datatrove.data import Document

from safelm.builder.blocks import Block, Reader, Task
from safelm.builder.shards import Shard
from safelm.documents.shards import documents_of

DUPLICATE = "duplicate"


@dataclass(kw_only=True, eq=False, repr=False)
class DropDuplicates(Block):
    """Drop, as duplicate, every document whose id came before in the same task."""

    type: ClassVar[str] = "filter"
    name: ClassVar[str] = "duplicates"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: set[bytes] = set()

    def process(self, document: Document) -> Iterator[Document]:
        """Yield a document with a new id."""
        # Half the memory of the hexadecimal id.
        key = bytes.fromhex(document.id)
        if key in self.seen:
            self.drop(DUPLICATE)
        else:
            self.seen.add(key)
            yield document


@dataclass(kw_only=True, eq=False, repr=False)
class ReadDistinct(Reader):
    """Read shards again without the documents that a task's values name."""

    name: ClassVar[str] = "distinct documents"
    stale: list[Task] = field(metadata={"key": False})

    def tasks(self) -> list[Task]:
        """Return the tasks of the shards that hold duplicates."""
        return self.stale

    def read(self, task: Task) -> Iterator[Document]:
        """Yield every document that is no duplicate."""
        duplicates = pa.array(task.values, pa.string())
        for item in task.inputs:
            for batch in Shard(item.path, 0, item.sha256).batches():
                is_duplicate = pc.is_in(batch["id"], duplicates)
                kept = batch.filter(pc.invert(is_duplicate))
                self.drop(DUPLICATE, batch.num_rows - kept.num_rows)
                yield from documents_of(kept)
