"""The store in place of DataTrove's completion marks, over any of its executors: local, Ray, Slurm.

DataTrove's marks are named by rank alone and outlive the outputs they speak of: they never decide
(design §5)."""

import json
import os
from collections.abc import Iterable
from copy import deepcopy
from typing import Any

os.environ.setdefault(
    "LOGURU_DIAGNOSE", "NO"
)  # a traceback must not show the values of variables: they hold web text

from datatrove.executor import base as datatrove_base
from datatrove.executor.base import PipelineExecutor
from loguru import logger

from safelm.builder.digest import cached_digest
from safelm.builder.manifest import Ledger
from safelm.builder.paths import environment_number, scratch
from safelm.builder.plan import Plan
from safelm.builder.stage import StageError
from safelm.builder.terminal import Progress

QUARANTINE = ".quarantine.jsonl"


def _log_to_file(logging_dir: Any, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
    """Stands in for datatrove/utils/logging.py:40, which also writes some 15 lines a task to the
    screen.
    """
    logger.remove()
    file = logging_dir.open(f"logs/task_{rank:05d}.log", "w")
    logger.add(file, level="DEBUG", diagnose=False)
    return file


def _close_log(file: Any) -> None:
    logger.remove()
    file.close()


datatrove_base.add_task_logger = _log_to_file
datatrove_base.close_task_logger = _close_log


class CachedExecutor(PipelineExecutor):
    """A mixin, to stand before one of DataTrove's executors: `class RayExecutor(Keyed,
    RayPipelineExecutor)`.

    Such a class has a `run` that calls `_run_for_rank` for each of `get_incomplete_ranks()`, in as
    many processes as it likes, calls `finished(rank)` in the first one, and raises StageError when
    one fails."""

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
        self.checked = 0  # the process that has compared its own code with the plan's

    def build(self) -> int:
        """Make what is missing; the number made."""
        todo = self.get_incomplete_ranks()
        if todo:
            self.progress = Progress(
                self.plan.stage, len(self.plan.tasks), len(self.plan.tasks) - len(todo)
            )
            try:
                self.run()
            finally:
                self.progress.close()
        return len(todo)

    def finished(self, rank: int) -> None:
        """Called in the first process for each shard that was made."""
        if (
            self.progress
            and self.progress.is_shown
            and (record := self.plan.store.get(self.plan.keys[rank]))
        ):
            self.progress.made(record.ledger.rows_in)

    def __getstate__(self) -> dict[str, Any]:
        """What other processes get: all but the bar."""
        return {**self.__dict__, "progress": None}

    def is_rank_completed(self, rank: int) -> bool:
        """A shard is done when the store has its key."""
        return self.plan.store.get(self.plan.keys[rank]) is not None

    def get_incomplete_ranks(self, ranks: Any = None, skip_completed: Any = None) -> list[int]:
        """The shards to make."""
        return self.plan.missing()

    def save_executor_as_json(self, indent: int = 4) -> None:
        """Nothing: DataTrove would write every value of the blocks, secrets too, in clear."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        """Make one shard, in whatever process this is."""
        self._enter()
        if self.is_rank_completed(rank):
            return None
        self.pipeline = deepcopy(list(self.plan.blocks))
        try:
            with self.plan.store.temporary_directory(self.plan.keys[rank]) as attempt:
                for block in self.pipeline:
                    block.begin(self.plan.tasks[rank], attempt)
                # Not that of the Ray executor, which writes its log into a folder of the node, by
                # rank alone.
                return PipelineExecutor._run_for_rank(self, rank, local_rank, node_rank)
        finally:
            self.pipeline = list(self.plan.blocks)

    def _enter(self) -> None:
        """Once in each process: it imported the code when it started, perhaps after an edit, or on
        another machine.
        """
        if self.checked != os.getpid():
            os.chdir(self.plan.root)
            self.plan.refuse_difference()
            self.checked = os.getpid()

    def mark_rank_as_completed(self, rank: int) -> None:
        """Commit the attempt: check the inputs and the ledger, hash, sync, rename, record."""
        if not self.plan.is_followed():
            raise StageError(
                "the code of this stage was changed during the run; run the stage again"
            )
        reader, *_, writer = self.pipeline
        task = self.plan.tasks[rank]
        for item in task.inputs:
            if cached_digest(item.path) != item.sha256:
                raise StageError(f"{item.path}: input changed during run; run the stage again")
        quarantined = [row for block in self.pipeline for row in block.quarantined]
        ledger = Ledger(
            rows_in=reader.rows_in,
            rows_out=writer.rows,
            dropped=_counts(name for block in self.pipeline for name in block.dropped.elements()),
            quarantined=_counts(row["reason"] for row in quarantined),
        ).check(f"{self.plan.stage}: shard {task.name}")
        files = dict(writer.files)
        if quarantined:
            lines = "".join(
                json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in quarantined
            )
            (writer.folder / QUARANTINE).write_text(lines, encoding="utf-8")
            files[QUARANTINE] = len(quarantined)
        self.plan.store.commit(self.plan.keys[rank], writer.folder, files, ledger)


def _counts(names: Iterable[str]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


logger.disable(
    "datatrove.executor"
)  # what it says to the screen; what a task says goes to the log of the task


def resources() -> dict[str, Any]:
    """What each task may use and how many run at once, as DataTrove's executors of clusters name
    it; 0 GB: not said.
    """
    return {
        "cpus_per_task": environment_number("SAFELM_TASK_CPUS") or 1,
        "gpus_per_task": environment_number("SAFELM_TASK_GPUS") or 0,
        "mem_per_cpu_gb": environment_number("SAFELM_TASK_MEMORY") or 0,
        "workers": environment_number("SAFELM_WORKERS") or -1,
    }
