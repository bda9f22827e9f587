"""Batches of documents that fit into memory, for work that is fast only in bulk."""

from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from datatrove.data import Document

Text = TypeVar("Text", str, Document)


class Size(NamedTuple):
    """The largest size of a batch."""

    rows: int
    characters: int


BATCH = Size(rows=512, characters=4 << 20)
# More than a shard holds: a server gets all its requests at once and is never idle.
SHARD = Size(rows=1 << 16, characters=256 << 20)


def batches(documents: Iterable[Text], size: Size = BATCH) -> Iterator[list[Text]]:
    """Yield lists of at most `size.rows` documents or texts.

    The one that brings a list to `size.characters` closes it.
    """
    batch: list[Text] = []
    characters = 0
    for document in documents:
        batch.append(document)
        characters += len(document if isinstance(document, str) else document.text)
        if len(batch) == size.rows or characters >= size.characters:
            yield batch
            batch = []
            characters = 0
    if batch:
        yield batch
