"""Samples of documents that depend on ids and the seed, not on order, shards or workers."""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import chain
from typing import ClassVar

from datatrove.data import Document

from safelm.builder.blocks import NOT_SELECTED, Task
from safelm.builder.shards import Shard
from safelm.documents.shards import ReadShards
from safelm.seeding import sample


@dataclass(kw_only=True, eq=False, repr=False)
class ReadSample(ReadShards):
    """Read a sample of a whole folder; other documents are dropped as not selected."""

    name: ClassVar[str] = "sample"
    purpose: str
    # The chosen ids are values of the tasks and so in their keys. A setting that leads to the same
    # ids for a shard need not rebuild it.
    documents: int = field(metadata={"key": False})
    seed: int = field(metadata={"key": False})

    def tasks(self) -> list[Task]:
        """List one task per shard, with the ids that the sample takes from it."""
        tasks = super().tasks()
        ids = [ids_of(task) for task in tasks]
        every = chain.from_iterable(ids)
        chosen = set(sample(self.purpose, self.seed, every, self.documents))
        sampled = []
        for task, ids_of_shard in zip(tasks, ids, strict=True):
            values = tuple(id for id in ids_of_shard if id in chosen)
            sampled.append(replace(task, values=values))
        return sampled

    def read(self, task: Task) -> Iterator[Document]:
        """Yield the chosen documents of one shard."""
        chosen = set(task.values)
        for document in super().read(task):
            if document.id in chosen:
                yield document
            else:
                self.drop(NOT_SELECTED)


def ids_of(task: Task) -> list[str]:
    """Return the ids of a shard's documents."""
    shard = task.inputs[0]
    return Shard(shard.path, 0, shard.sha256).table(["id"])["id"].to_pylist()
