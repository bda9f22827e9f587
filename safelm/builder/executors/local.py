"""The executor of one machine: shards one after another in this process, or side by side in watched
workers.
"""

from collections.abc import Sequence
from typing import Any

from datatrove.executor.local import LocalPipelineExecutor

from safelm.builder.executors.base import CachedExecutor
from safelm.builder.paths import workers
from safelm.builder.plan import Plan
from safelm.builder.stage import StageError
from safelm.builder.workers import WorkFailed, describe_error, run_in_processes

SMALL = 4 << 20  # bytes of input under which starting worker processes costs more than they save


class LocalExecutor(CachedExecutor, LocalPipelineExecutor):
    """DataTrove's local executor with a pool of its own: DataTrove's waits for ever for a worker
    that was killed.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, workers=workers())

    def run(self) -> Any:
        """Make every missing shard."""
        todo = self.get_incomplete_ranks()
        tasks = self.plan.tasks
        size = sum(item.path.stat().st_size for rank in todo for item in tasks[rank].inputs)
        if len(todo) < 2 or self.workers < 2 or size < SMALL:
            self._here(todo)
        else:
            self._side_by_side(todo)

    def _here(self, todo: Sequence[int]) -> None:
        for rank in todo:
            try:
                self._run_for_rank(rank)
            except Exception as error:
                raise StageError(self._failed(rank, describe_error(error))) from error
            self.finished(rank)

    def _side_by_side(self, todo: Sequence[int]) -> None:
        try:
            for rank in run_in_processes(self._run_for_rank, todo, self.workers):
                self.finished(rank)
        except WorkFailed as error:
            raise StageError(self._failed(error.number, str(error))) from None

    def _failed(self, rank: int, cause: str) -> str:
        return f"{self.plan.stage}: shard {self.plan.tasks[rank].name}: {cause}"
