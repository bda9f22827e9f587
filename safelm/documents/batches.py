"""Batches of documents that fit into memory, for work that is fast only in bulk."""

from abc import abstractmethod
from collections.abc import Iterable, Iterator
from typing import NamedTuple, TypeVar

from datatrove.data import Document

from safelm.builder.blocks import Block, Documents

Text = TypeVar("Text", str, Document)


class Size(NamedTuple):
    """The largest size of a batch."""

    rows: int
    characters: int


BATCH = Size(rows=512, characters=4 << 20)
# More than a shard holds: a server gets all its requests at once and is never idle.
SHARD = Size(rows=1 << 16, characters=256 << 20)


class BatchBlock(Block):
    """The base of blocks that process batches of documents."""

    batch = BATCH  # the largest size of a batch

    @abstractmethod
    def process_batch(self, documents: list[Document]) -> Documents:
        """Yield the documents of a batch, or what is made of them."""

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Documents:
        """Process every batch, as DataTrove calls it."""
        for documents in batches(data or (), self.batch):
            yield from self.process_batch(documents)


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
