"""The executor of a Slurm cluster: one array job a stage, submitted and watched by this process.

Partition, time limit, account and the like are sbatch's own variables (SBATCH_PARTITION,
SBATCH_TIMELIMIT, …). DataTrove pickles the executor for its jobs. Only the job script reads that
file, it lies in a folder that no other user may enter, and it holds what the plan holds: declared
values, no secret."""

import json
import math
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from datatrove.executor.slurm import SlurmPipelineExecutor

from safelm.builder.executors.base import CachedExecutor, resources
from safelm.builder.fingerprint import ROOT
from safelm.builder.paths import environment_number
from safelm.builder.plan import Plan
from safelm.builder.stage import StageError

ARRAY = 1000  # Slurm's own limit of an array job is 1001 (MaxArraySize)
PAUSE = 2.0  # seconds between two looks at the queue
NAMED = 8  # lost jobs named in an error


class SlurmExecutor(CachedExecutor, SlurmPipelineExecutor):
    """DataTrove's Slurm executor, which waits for its job and says which shards were lost, and why."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(
            plan,
            **resources(),
            time="",
            partition="",
            qos="",
            job_name=f"safelm-{plan.stage.replace('/', '-')}",
            tasks_per_job=max(
                environment_number("SAFELM_TASKS_PER_JOB") or 1, math.ceil(len(plan.tasks) / ARRAY)
            ),
            env_command=_setup(plan.root),
            requeue=False,
            requeue_signals=None,
            sbatch_args={"no-requeue": ""},
            with_srun=False,
        )
        self.sent = False
        self.job_id: str | None = None

    def run(self) -> Any:
        """Make every missing shard in one array job. In a job: those of this job."""
        if self.sent:
            return super().run()
        folder = Path(self.logging_dir.path)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)  # what a job unpickles is its own user's
        self.sent = True
        try:
            self.launch_job()
        except (OSError, subprocess.CalledProcessError) as error:
            raise StageError(f"SAFELM_EXECUTOR=slurm: could not submit a job: {error}") from error
        ranks = json.loads((folder / "ranks_to_run.json").read_bytes())
        try:
            lost = self._wait(ranks)
        except BaseException:
            subprocess.run(["scancel", str(self.job_id)])
            raise
        if lost:
            raise StageError(self._lost(ranks, lost))

    def launch_merge_stats(self) -> None:
        """Nothing: DataTrove would submit one more job to add up its own statistics."""

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """What the environment does not say is left out: sbatch reads variables of its own, and has
        defaults.
        """
        unsaid = {"partition", "time"} | (set() if self.mem_per_cpu_gb else {"mem-per-cpu"})
        return {
            name: value
            for name, value in super().get_sbatch_args(max_array).items()
            if name not in unsaid
        }

    def _wait(self, ranks: Sequence[int]) -> list[int]:
        """Until every shard is made or the job has ended; the shards that are not made."""
        waiting = list(ranks)
        while True:
            ended = not self._is_queued()  # asked first: what is not made then, never will be
            made = {rank for rank in waiting if self.is_rank_completed(rank)}
            waiting = [rank for rank in waiting if rank not in made]
            for rank in sorted(made):
                self.finished(rank)
            if ended or not waiting:
                return waiting
            time.sleep(PAUSE)

    def _is_queued(self) -> bool:
        """Whether some task of the job is pending or running. A controller that does not answer may
        come back.
        """
        command = ["squeue", "--noheader", "--format=%T", f"--jobs={self.job_id}"]
        done = subprocess.run(command, capture_output=True, text=True)
        return (
            bool(done.stdout.strip())
            if done.returncode == 0
            else "Invalid job id" not in done.stderr
        )

    def _lost(self, ranks: Sequence[int], lost: Sequence[int]) -> str:
        jobs: dict[int, list[str]] = {}
        for rank in lost:
            jobs.setdefault(ranks.index(rank) // self.tasks_per_job, []).append(
                self.plan.tasks[rank].name
            )
        lines = [
            f"shard {', '.join(names)}: {self._last_words(number)}"
            for number, names in jobs.items()
        ]
        return (
            f"{self.plan.stage}: {len(lost)} of {len(ranks)} shards were lost; finished shards are kept, run the stage "
            f"again\n  " + "\n  ".join([*lines[:NAMED], *(["…"] if len(lines) > NAMED else [])])
        )

    def _last_words(self, number: int) -> str:
        """The last line that a job left: an error of ours, or what ended it, as the shell or Slurm
        says it.
        """
        log = Path(self.slurm_logs_folder) / f"{self.job_id}_{number}.out"
        try:
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return f"its job left no log; see `scontrol show job {self.job_id}_{number}`"
        return f"{next(line for line in reversed(lines) if line.strip())[:2000]} ({log})"


def _setup(root: Path) -> str:
    """What a job's shell does first: SAFELM_SLURM_SETUP (`module load …`), then this Python, this
    code, this folder.
    """
    path = shlex.quote(str(Path(sys.executable).parent))
    return "\n".join(
        [
            os.environ.get("SAFELM_SLURM_SETUP", ""),
            f"cd {shlex.quote(str(root))}",
            f"export PATH={path}:$PATH PYTHONPATH={shlex.quote(str(ROOT))} LOGURU_DIAGNOSE=NO",
        ]
    )
