"""A sample of documents chosen by their ids and a seed, so that order, sharding and workers do not
matter.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import pyarrow.compute as pc
from datatrove.data import Document

from safelm.builder.blocks import NOT_SELECTED, Task
from safelm.builder.shards import Shard
from safelm.documents.shards import ReadShards
from safelm.seeding import sample


@dataclass(kw_only=True, eq=False, repr=False)
class ReadSample(ReadShards):
    """Read a sample of a whole folder; the rest is dropped as not selected.

    The chosen ids are values of the tasks, so a shard whose part of the sample stays as it was is
    not made again."""

    name: ClassVar[str] = "sample"
    purpose: str
    documents: int = field(metadata={"key": False})
    seed: int = field(metadata={"key": False})
    with_label: bool = field(
        default=False, metadata={"key": False}
    )  # only documents to which the source gives one

    def tasks(self) -> list[Task]:
        """One per shard, with the ids that the sample takes from it."""
        tasks = super().tasks()
        ids = {task.name: ids_of(task, self.with_label) for task in tasks}
        chosen = set(
            sample(
                self.purpose,
                self.seed,
                (id for task in tasks for id in ids[task.name]),
                self.documents,
            )
        )
        return [
            replace(task, values=tuple(id for id in ids[task.name] if id in chosen))
            for task in tasks
        ]

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
