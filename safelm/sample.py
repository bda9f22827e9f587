"""A sample of documents chosen by their ids and a seed, so that order, sharding and workers do not matter."""

import heapq
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import ClassVar

import pyarrow.compute as pc
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
    with_label: bool = field(default=False, metadata={"key": False})  # only documents to which the source gives one

    def tasks(self) -> list[Task]:
        """One per shard, with the ids that the sample takes from it."""
        tasks = super().tasks()
        ids = {task.name: ids_of(task, self.with_label) for task in tasks}
        chosen = set(sample(self.purpose, self.seed, (id for task in tasks for id in ids[task.name]), self.documents))
        return [replace(task, values=tuple(id for id in ids[task.name] if id in chosen)) for task in tasks]

    def read(self, task: Task) -> Iterator[Document]:
        """The chosen documents of one shard."""
        chosen = set(task.values)
        for document in super().read(task):
            if document.id in chosen:
                yield document
            else:
                self.drop(NOT_SELECTED)


def ids_of(task: Task, with_label: bool = False) -> list[str]:
    """The ids of a shard's documents, or of those that have a label."""
    shard = task.inputs[0]
    table = Shard(shard.path, 0, shard.sha256).table(["id", "label"] if with_label else ["id"])
    return (table.filter(pc.is_valid(table["label"])) if with_label else table)["id"].to_pylist()
