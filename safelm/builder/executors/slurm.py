"""The executor of a Slurm cluster: one array job a stage, submitted and watched by this process.

Partition, time limit, account and the like are sbatch's own variables (SBATCH_PARTITION,
SBATCH_TIMELIMIT, …). DataTrove pickles the executor for its jobs. Only the job script reads that
file, it lies in a folder that no other user may enter, and it holds what the plan holds: declared
values, no secret.
"""

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

from safelm.builder.environment import environment_number, task_resources
from safelm.builder.executors.base import CachedExecutor
from safelm.builder.fingerprint import ROOT
from safelm.builder.locks import StageError
from safelm.builder.plan import Plan

ARRAY = 1000  # Slurm's own limit of an array job is 1001 (MaxArraySize)
PAUSE = 2.0  # seconds between two looks at the queue
NAMED = 8  # lost jobs that an error names


class SlurmExecutor(CachedExecutor, SlurmPipelineExecutor):
    """DataTrove's Slurm executor, which waits for its job and says why shards were lost."""

    def __init__(self, plan: Plan) -> None:
        per_job = environment_number("SAFELM_TASKS_PER_JOB") or 1
        super().__init__(
            plan,
            **task_resources(),
            time="",
            partition="",
            # DataTrove's default is a QOS, which a Slurm without accounting refuses.
            qos="",
            job_name=f"safelm-{plan.stage.replace('/', '-')}",
            tasks_per_job=max(per_job, math.ceil(len(plan.tasks) / ARRAY)),
            env_command=_shell_setup(plan.root),
            requeue=False,
            requeue_signals=None,
            sbatch_args={"no-requeue": ""},
            with_srun=False,
        )
        self.is_submitted = False
        self.job_id: str | None = None

    def run(self) -> Any:
        """Make every missing shard in one array job; within a job, make the shards of this job.

        Raises:
            StageError: the job could not be submitted, or it lost shards.
        """
        if self.is_submitted:
            return super().run()
        folder = Path(self.logging_dir.path)
        folder.mkdir(parents=True, exist_ok=True)
        # No other user may change what a job unpickles.
        folder.chmod(0o700)
        # Before launch_job, which pickles this object: in a job, `run` takes the branch above.
        self.is_submitted = True
        try:
            self.launch_job()
        except (OSError, subprocess.CalledProcessError) as error:
            raise StageError(f"SAFELM_EXECUTOR=slurm: could not submit a job: {error}") from error
        ranks = json.loads((folder / "ranks_to_run.json").read_bytes())
        try:
            lost = self._wait(ranks)
        # Also at Ctrl-C: nobody would wait for the job any more.
        except BaseException:
            subprocess.run(["scancel", str(self.job_id)])
            raise
        if lost:
            raise StageError(self._loss_report(ranks, lost))

    def launch_merge_stats(self) -> None:
        """Do nothing: DataTrove would submit one more job to add up its own statistics."""

    def get_sbatch_args(self, max_array: int = 1) -> dict[str, Any]:
        """Leave out unset options: sbatch has defaults, and reads variables of its own."""
        unset = {"partition", "time"}
        if not self.mem_per_cpu_gb:
            unset.add("mem-per-cpu")
        options = super().get_sbatch_args(max_array)
        return {name: value for name, value in options.items() if name not in unset}

    def _wait(self, ranks: Sequence[int]) -> list[int]:
        """Wait until every shard is made or the job has ended; return the shards not made."""
        waiting = list(ranks)
        while True:
            # Asked first: what is not made after the job has ended never will be.
            has_ended = not self._is_queued()
            made = {rank for rank in waiting if self.is_rank_completed(rank)}
            waiting = [rank for rank in waiting if rank not in made]
            for rank in sorted(made):
                self.finished(rank)
            if has_ended or not waiting:
                return waiting
            time.sleep(PAUSE)

    def _is_queued(self) -> bool:
        """Return whether a task of the job is pending or running.

        A controller that does not respond counts as yes: it may come back.
        """
        command = ["squeue", "--noheader", "--format=%T", f"--jobs={self.job_id}"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            # Slurm forgets a job some minutes after its end (MinJobAge).
            return "Invalid job id" not in done.stderr
        return bool(done.stdout.strip())

    def _loss_report(self, ranks: Sequence[int], lost: Sequence[int]) -> str:
        jobs: dict[int, list[str]] = {}
        for rank in lost:
            job = ranks.index(rank) // self.tasks_per_job
            jobs.setdefault(job, []).append(self.plan.tasks[rank].name)
        causes = [
            f"\n  shard {', '.join(shards)}: {self._last_log_line(job)}"
            for job, shards in list(jobs.items())[:NAMED]
        ]
        more = "\n  …" if len(jobs) > NAMED else ""
        return (
            f"{self.plan.stage}: {len(lost)} of {len(ranks)} shards were lost; finished shards are "
            f"kept, run the stage again{''.join(causes)}{more}"
        )

    def _last_log_line(self, job: int) -> str:
        """Return the last line of a job's log: an error of ours, of the shell or of Slurm."""
        log = Path(self.slurm_logs_folder) / f"{self.job_id}_{job}.out"
        try:
            lines = log.read_text(encoding="utf-8", errors="replace").split("\n")
        except FileNotFoundError:
            return f"its job left no log; see `scontrol show job {self.job_id}_{job}`"
        last = next((line for line in reversed(lines) if line.strip()), "it printed nothing")
        return f"{last[:2000]} ({log})"


def _shell_setup(root: Path) -> str:
    """Set up a job's shell: SAFELM_SLURM_SETUP first, then this Python, this code, this folder."""
    path = shlex.quote(str(Path(sys.executable).parent))
    code = shlex.quote(str(ROOT))
    lines = [
        os.environ.get("SAFELM_SLURM_SETUP", ""),
        f"cd {shlex.quote(str(root))}",
        f"export PATH={path}:$PATH PYTHONPATH={code} LOGURU_DIAGNOSE=NO",
    ]
    return "\n".join(lines)
