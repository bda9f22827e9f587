"""Blocks that drop exact duplicates.

They are apart from dedup.py, which runs stages: the executor shapes no byte, and must not enter the
keys of the shards that these blocks make.
"""

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datatrove.data import Document

from safelm.builder.blocks import Block, Documents
from safelm.documents.shards import ReadRest

DUPLICATE = "duplicate"


class DropDuplicates(Block):
    """Drop, as duplicate, every document whose id came before in the same task."""

    type = "filter"
    name = "duplicates"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: set[bytes] = set()

    def process(self, document: Document) -> Documents:
        """Yield a document with a new id."""
        # Half the memory of the hexadecimal id.
        key = bytes.fromhex(document.id)
        if key in self.seen:
            self.drop(DUPLICATE)
        else:
            self.seen.add(key)
            yield document


class ReadDistinct(ReadRest):
    """Read shards again without the documents whose ids a task's values name."""

    name = "distinct documents"
    row: str = DUPLICATE

    def is_dropped(self, batch: pa.Table, begin: int, values: tuple[Any, ...]) -> Any:
        """Return whether the id of each row is named."""
        return pc.is_in(batch["id"], pa.array(values, pa.string()))
