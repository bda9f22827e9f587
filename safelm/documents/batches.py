"""Documents in batches that fit into memory, for what is fast only on many at once."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from datatrove.data import Document


class Size(NamedTuple):
    """How large a batch may be."""

    rows: int
    characters: int


BATCH = Size(512, 4 << 20)
SHARD = Size(
    1 << 16, 256 << 20
)  # a shard holds less: it is asked about at once, and a server is never idle between


def batches(documents: Iterable[Document], size: Size = BATCH) -> Iterator[list[Document]]:
    """Lists of at most `size.rows` documents, closed early by the document that fills them to
    `size.characters`.
    """
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if len(batch) == size.rows or characters >= size.characters:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
