"""A sample of documents chosen by their ids and a seed, so that order, sharding and workers do not matter."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import ClassVar

from datatrove.data import Document

from safelm.blocks import NOT_SELECTED, ReadShards, Task
from safelm.shards import Shard


def draw(purpose: str, seed: int, id: str) -> bytes:
    """A number drawn for one document, as eight bytes; stages with one seed draw apart by their purpose."""
    return blake2b(f"{purpose}:{seed}:{id}".encode(), digest_size=8).digest()


def sample(purpose: str, seed: int, ids: Iterable[str], count: int) -> list[str]:
    """The `count` ids with the smallest draws (all, if there are fewer), in the order of their draws."""
    return heapq.nsmallest(count, ids, key=lambda id: (draw(purpose, seed, id), id))


@dataclass(kw_only=True, eq=False, repr=False)
class ReadSample(ReadShards):
    """Read a sample of a whole folder; the rest is dropped as not selected.

    The chosen ids are values of the tasks, so a shard whose part of the sample stays as it was is not made again.
    """

    name: ClassVar[str] = "sample"
    purpose: str
    documents: int = field(metadata={"key": False})
    seed: int = field(metadata={"key": False})

    def tasks(self) -> list[Task]:
        """One per shard, with the ids that the sample takes from it."""
        tasks = super().tasks()
        chosen = set(sample(self.purpose, self.seed, (id for task in tasks for id in ids_of(task)), self.documents))
        return [replace(task, values=tuple(id for id in ids_of(task) if id in chosen)) for task in tasks]

    def read(self, task: Task) -> Iterator[Document]:
        """The chosen documents of one shard."""
        chosen = set(task.values)
        for document in super().read(task):
            if document.id in chosen:
                yield document
            else:
                self.drop(NOT_SELECTED)


def ids_of(task: Task) -> list[str]:
    """The ids of a shard's documents."""
    shard = task.inputs[0]
    return Shard(shard.path, 0, shard.sha256).table(["id"])["id"].to_pylist()
