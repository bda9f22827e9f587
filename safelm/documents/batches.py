"""Batches of documents that fit into memory, for work that is fast only in bulk."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple

from datatrove.data import Document


class Size(NamedTuple):
    """The largest size of a batch."""

    rows: int
    characters: int


BATCH = Size(rows=512, characters=4 << 20)
# More than a shard holds: a server gets all its requests at once and is never idle.
SHARD = Size(rows=1 << 16, characters=256 << 20)


def batches(documents: Iterable[Document], size: Size = BATCH) -> Iterator[list[Document]]:
    """Yield lists of at most `size.rows` documents.

    The document that brings a list to `size.characters` closes it.
    """
    batch: list[Document] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document.text)
        if len(batch) == size.rows or characters >= size.characters:
            yield batch
            batch = []
            characters = 0
    if batch:
        yield batch
