"""Samples of documents that depend on ids and the seed, not on order, shards or workers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain

from safelm.builder.blocks import Documents, Task, unkeyed
from safelm.documents.shards import ReadShards, input_shards, selected
from safelm.seeding import sample

Candidates = Mapping[str, Sequence[str]]  # the ids of a shard that may be drawn, by purpose


class ReadSample(ReadShards):
    """Read a sample of a whole folder; other documents are dropped as not selected."""

    name = "sample"
    purpose: str
    # The chosen ids are values of the tasks and so in their keys. A setting that leads to the same
    # ids for a shard need not rebuild it.
    documents: int = unkeyed()
    seed: int = unkeyed()

    def tasks(self) -> list[Task]:
        """List one task per shard, with the ids that the sample takes from it."""
        tasks = super().tasks()
        return sample_tasks(tasks, map(self.candidates, tasks), self.documents, self.seed)

    def candidates(self, task: Task) -> Candidates:
        """Return the ids of a shard that may be drawn."""
        return {self.purpose: ids_of(task)}

    def read(self, task: Task) -> Documents:
        """Yield the chosen documents of one shard."""
        return selected(self, super().read(task), task.values)


def sample_tasks(
    tasks: Sequence[Task], candidates: Iterable[Candidates], documents: int, seed: int
) -> list[Task]:
    """Return tasks with the ids that a sample takes from each as their values.

    At most `documents` are drawn of the candidates of each purpose.
    """
    of_tasks = list(candidates)
    chosen: set[str] = set()
    for purpose in set(chain.from_iterable(of_tasks)):
        ids = chain.from_iterable(of_task.get(purpose, ()) for of_task in of_tasks)
        chosen.update(sample(purpose, seed, ids, documents))
    sampled = []
    for task, of_task in zip(tasks, of_tasks, strict=True):
        ids = chain.from_iterable(of_task.values())
        sampled.append(replace(task, values=tuple(filter(chosen.__contains__, ids))))
    return sampled


def ids_of(task: Task) -> list[str]:
    """Return the ids of a shard's documents."""
    return input_shards(task)[0].table(["id"])["id"].to_pylist()
