"""An executor that asks the store, not DataTrove's marks, which shards are done.

DataTrove marks a task by its rank alone, and the mark outlives the output. Its marks are ignored.
"""

import json
import os
from collections import Counter
from copy import deepcopy
from itertools import chain
from typing import Any

# Read when loguru is imported: a traceback must not show values of variables, which hold web text.
os.environ.setdefault("LOGURU_DIAGNOSE", "NO")

from datatrove.executor import base as datatrove_base
from datatrove.executor.base import PipelineExecutor
from loguru import logger

from safelm.builder.blocks import Block, Reader, Task, Writer
from safelm.builder.digest import cached_digest
from safelm.builder.locks import StageError
from safelm.builder.manifest import Ledger, sorted_counts
from safelm.builder.paths import scratch
from safelm.builder.plan import Plan
from safelm.builder.terminal import Progress

QUARANTINE = ".quarantine.jsonl"


def _log_to_file(
    logging_dir: Any,
    rank: int,
    local_rank: int = 0,
    node_rank: int = -1,
) -> Any:
    """Open a task's log; datatrove/utils/logging.py:40 also writes some 15 lines to the screen."""
    logger.remove()
    file = logging_dir.open(f"logs/task_{rank:05d}.log", "w")
    logger.add(file, level="DEBUG", diagnose=False)
    return file


def _close_log(file: Any) -> None:
    logger.remove()
    file.close()


datatrove_base.add_task_logger = _log_to_file
datatrove_base.close_task_logger = _close_log
# Its messages are for the screen; those of a task go to the task's log.
logger.disable("datatrove.executor")


class CachedExecutor(PipelineExecutor):
    """A mixin that stands before one of DataTrove's executors.

    `class RayExecutor(CachedExecutor, RayPipelineExecutor)` has a `run` that calls
    `_run_for_rank` for each of `get_incomplete_ranks()`, in as many processes as it likes. In the
    first process it calls `finished(rank)` for each shard that was made. It raises StageError when
    one fails.
    """

    pipeline: list[Any]

    def __init__(self, plan: Plan, **settings: Any) -> None:
        super().__init__(
            pipeline=list(plan.blocks),
            tasks=max(len(plan.tasks), 1),
            logging_dir=str(scratch("logs", plan.stage).absolute()),
            **settings,
        )
        self.plan = plan
        self.progress: Progress | None = None
        self.checked_process = 0  # that compared its code with the plan's

    def build(self) -> int:
        """Make the shards that are not cached; return their number."""
        missing = len(self.get_incomplete_ranks())
        tasks = len(self.plan.tasks)
        if missing:
            self.progress = Progress(self.plan.stage, tasks, tasks - missing)
            try:
                self.run()
            finally:
                self.progress.close()
        return missing

    def finished(self, rank: int) -> None:
        """Advance the progress bar by a shard; called in the first process only."""
        # The entry is read from disk, so only where the bar is drawn.
        if self.progress and self.progress.is_shown and (entry := self.plan.entry(rank)):
            self.progress.advance(entry.ledger.rows_in)

    def failure(self, rank: int, cause: str) -> StageError:
        """Return the error of a shard that could not be made."""
        shard = self.plan.tasks[rank].name
        return StageError(f"{self.plan.stage}: shard {shard}: {cause}")

    def __getstate__(self) -> dict[str, Any]:
        """Leave the progress bar out of what is sent to other processes."""
        return {**self.__dict__, "progress": None}

    def is_rank_completed(self, rank: int) -> bool:
        """Return whether the store has the shard's key."""
        return self.plan.entry(rank) is not None

    def get_incomplete_ranks(self, ranks: Any = None, skip_completed: Any = None) -> list[int]:
        """Return the shards to make."""
        return self.plan.missing()

    def save_executor_as_json(self, indent: int = 4) -> None:
        """Do nothing: DataTrove would write all values of blocks, secrets too, in the clear."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        """Make one shard, in whatever process this is."""
        self._check_process()
        if self.is_rank_completed(rank):
            return None
        # A copy, because blocks count rows, and this process may make more than one shard.
        self.pipeline = deepcopy(list(self.plan.blocks))
        try:
            with self.plan.store.temporary_directory(self.plan.keys[rank]) as folder:
                for block in self.pipeline:
                    block.begin(self.plan.tasks[rank], folder)
                # Not the method of the Ray executor, which writes its log into a folder of the
                # node, by rank alone.
                return PipelineExecutor._run_for_rank(self, rank, local_rank, node_rank)
        finally:
            self.pipeline = list(self.plan.blocks)

    def _check_process(self) -> None:
        """Compare this process with the plan once: it may run newer code, or another machine's."""
        if self.checked_process != os.getpid():
            # A cluster starts workers in other folders, and paths are relative to the project.
            os.chdir(self.plan.root)
            self.plan.refuse_difference()
            self.checked_process = os.getpid()

    def mark_rank_as_completed(self, rank: int) -> None:
        """Check the code, the inputs and the ledger of a shard, then commit its files.

        Raises:
            StageError: the code or an input changed during the run.
            LedgerError: a block added or lost rows without counting them.
        """
        if not self.plan.code_is_unchanged():
            raise StageError("the code of this stage changed during the run; run the stage again")
        task = self.plan.tasks[rank]
        writer = self.pipeline[-1]
        _check_inputs(task)
        quarantined = list(chain.from_iterable(block.quarantined for block in self.pipeline))
        ledger = _ledger(self.pipeline, quarantined)
        ledger.check(f"{self.plan.stage}: shard {task.name}")
        files = dict(writer.files)
        if quarantined:
            rows = [json.dumps(row, sort_keys=True, ensure_ascii=False) for row in quarantined]
            text = "".join(f"{row}\n" for row in rows)
            (writer.task_folder / QUARANTINE).write_text(text, encoding="utf-8")
            files[QUARANTINE] = len(quarantined)
        self.plan.store.commit(self.plan.keys[rank], writer.task_folder, files, ledger)


def _check_inputs(task: Task) -> None:
    for item in task.inputs:
        if cached_digest(item.path) != item.sha256:
            raise StageError(f"{item.path}: input changed during the run; run the stage again")


def _ledger(blocks: list[Block], quarantined: list[dict[str, Any]]) -> Ledger:
    reader = blocks[0]
    writer = blocks[-1]
    assert isinstance(reader, Reader) and isinstance(writer, Writer)
    dropped: Counter[str] = Counter()
    for block in blocks:
        dropped.update(block.dropped)
    return Ledger(
        rows_in=reader.rows_in,
        rows_out=writer.rows,
        dropped=sorted_counts(dropped),
        quarantined=sorted_counts(Counter(row["reason"] for row in quarantined)),
    )
