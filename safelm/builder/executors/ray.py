"""The executor of a Ray cluster: one plain Ray task a shard.

The cluster is the one that RAY_ADDRESS names; without it, one of this process's own, which listens
on the loopback interface only. Ray is an extra: `make cluster` installs it."""

import logging
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from datatrove.executor.ray import RayPipelineExecutor

from safelm.builder.executors.base import CachedExecutor, resources
from safelm.builder.fingerprint import ROOT
from safelm.builder.paths import workers
from safelm.builder.plan import Plan
from safelm.builder.stage import StageError
from safelm.builder.workers import describe_error

STORE = 100 << 20  # bytes of shared memory; only the plan goes through it, for shards are files
GIGABYTE = 1 << 30


class RayExecutor(CachedExecutor, RayPipelineExecutor):
    """DataTrove's Ray executor with tasks in Ray's own workers: DataTrove's wait for ever for one
    that was killed.
    """

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, **resources())

    def run(self) -> Any:
        """Make every missing shard. A task that fails or dies is not tried again, and the others
        are stopped.
        """
        with connection():
            import ray

            self._refuse_too_small(ray.cluster_resources())
            todo, busy = deque(self.get_incomplete_ranks()), dict[Any, int]()
            executor, task = ray.put(self), ray.remote(_make).options(**self._options())
            try:
                while todo or busy:
                    while todo and len(busy) < self.workers:
                        rank = todo.popleft()
                        busy[task.remote(executor, rank)] = rank
                    for reference in ray.wait(list(busy))[0]:
                        self._answer(reference, busy.pop(reference))
            finally:
                for reference in busy:
                    ray.cancel(reference, force=True)

    def _options(self) -> dict[str, Any]:
        memory = self.mem_per_cpu_gb * self.cpus_per_task * GIGABYTE
        options = {"num_cpus": self.cpus_per_task, "num_gpus": self.gpus_per_task, "max_retries": 0}
        return {**options, "memory": memory} if memory else options

    def _refuse_too_small(self, cluster: dict[str, float]) -> None:
        """Ray would wait for ever, and say nothing, for a node that has what a task asks for."""
        for name, asked in {"CPU": self.cpus_per_task, "GPU": self.gpus_per_task}.items():
            if cluster.get(name, 0) < asked:
                raise StageError(
                    f"SAFELM_TASK_{name}S: expected at most the {cluster.get(name, 0):.0f} of the whole Ray cluster "
                    f"(got {asked}); ask for fewer, or add nodes before the stage begins"
                )

    def _answer(self, reference: Any, rank: int) -> None:
        import ray

        try:
            failure = ray.get(reference)
        except (
            ray.exceptions.RayTaskError
        ) as error:  # before the work began, which gives its own errors as sentences
            failure = f"a worker of Ray could not begin: {str(error).strip().splitlines()[-1]}"
        except ray.exceptions.RayError as error:
            cause = describe_error(error).partition("\n")[0]
            failure = f"its worker died ({cause}); finished shards are kept, run the stage again"
        if failure:
            raise StageError(f"{self.plan.stage}: shard {self.plan.tasks[rank].name}: {failure}")
        self.finished(rank)


def _make(executor: RayExecutor, rank: int) -> str | None:
    """Make one shard in a worker of Ray; the error in one line, if there was one."""
    try:
        executor._run_for_rank(rank)
    except Exception as error:
        return describe_error(error)
    return None


@contextmanager
def connection() -> Iterator[None]:
    """Ray, connected for as long as the block runs."""
    address = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not address:
        # Ray's name for: take the loopback address as the node's own. On Linux too; read when ray
        # is imported.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError as error:
        raise StageError(
            "SAFELM_EXECUTOR=ray: the package ray is not installed; run `make cluster`, or unset it"
        ) from error
    with tempfile.TemporaryDirectory(prefix="safelm-ray-") as folder:
        own = {
            "address": "local",
            "num_cpus": workers(),
            "object_store_memory": STORE,
            "_temp_dir": folder,
        }
        ray.init(
            **({"address": address} if address else own),
            include_dashboard=False,
            job_config=ray.job_config.JobConfig(code_search_path=[str(ROOT)]),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            yield
        finally:
            ray.shutdown()
