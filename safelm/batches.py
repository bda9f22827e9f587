"""Documents in batches that fit into memory, for what is fast only on many at once."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from datatrove.data import Document

ROWS = 512
CHARACTERS = 4 << 20


class Size(NamedTuple):
    """How large a batch may be."""

    rows: int
    characters: int


BATCH = Size(ROWS, CHARACTERS)
SHARD = Size(1 << 16, 256 << 20)  # a shard holds less: it is asked about at once, and a server is never idle between


def batches(documents: Iterable[Document], rows: int = ROWS, characters: int = CHARACTERS) -> Iterator[list[Document]]:
    """Lists of at most `rows` documents, closed early by the document that fills them to `characters`."""
    batch: list[Document] = []
    size = 0
    for document in documents:
        batch.append(document)
        size += len(document.text)
        if len(batch) == rows or size >= characters:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch
