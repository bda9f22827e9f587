"""The executor of one machine: shards in this process, or in supervised worker processes."""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

from datatrove.executor.local import LocalPipelineExecutor

from safelm.builder.blocks import Block
from safelm.builder.environment import workers
from safelm.builder.executors.base import CachedExecutor
from safelm.builder.files import describe_error
from safelm.builder.plan import Plan
from safelm.builder.provenance import walk_values
from safelm.builder.workers import WorkFailed, run_in_processes

# Bytes of input under which starting worker processes costs more time than they save.
SMALL = 4 << 20


class LocalExecutor(CachedExecutor, LocalPipelineExecutor):
    """DataTrove's local executor with our pool: its own waits for ever for a killed worker."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, workers=min([workers(), *_limits(plan)]))

    def run(self) -> Any:
        """Make every missing shard."""
        ranks = self.get_incomplete_ranks()
        inputs = chain.from_iterable(self.plan.tasks[rank].inputs for rank in ranks)
        is_small = sum(item.path.stat().st_size for item in inputs) < SMALL
        if len(ranks) < 2 or self.workers < 2 or is_small:
            self._run_here(ranks)
        else:
            self._run_in_workers(ranks)

    def _run_here(self, ranks: Sequence[int]) -> None:
        for rank in ranks:
            try:
                self._run_for_rank(rank)
            except Exception as error:
                raise self.failure(rank, describe_error(error)) from error
            self.finished(rank)

    def _run_in_workers(self, ranks: Sequence[int]) -> None:
        try:
            for rank in run_in_processes(self._run_for_rank, ranks, self.workers):
                self.finished(rank)
        except WorkFailed as error:
            raise self.failure(error.number, str(error)) from None


def _limits(plan: Plan) -> Iterator[int]:
    """Yield the `max_workers` of blocks, and of blocks within them: one a GPU for an encoder."""
    for value in walk_values(plan.blocks):
        limit = getattr(value, "max_workers", None) if isinstance(value, Block) else None
        if limit:
            yield limit
