"""The executor of a Ray cluster: one plain Ray task a shard.

RAY_ADDRESS names the cluster. Without it Ray starts one of this process's own, which listens on
the loopback interface only. Ray is an extra: `make cluster` installs it.
"""

import logging
import os
import tempfile
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from datatrove.executor.ray import RayPipelineExecutor

from safelm.builder.environment import task_resources, workers
from safelm.builder.executors.base import CachedExecutor
from safelm.builder.files import describe_error
from safelm.builder.fingerprint import ROOT
from safelm.builder.locks import StageError
from safelm.builder.plan import Plan

# Bytes of shared memory. Only the plan goes through it, because shards are files.
OBJECT_STORE = 100 << 20
GIGABYTE = 1 << 30


class RayExecutor(CachedExecutor, RayPipelineExecutor):
    """DataTrove's Ray executor with plain tasks: DataTrove's waits for ever for a killed one."""

    def __init__(self, plan: Plan) -> None:
        super().__init__(plan, **task_resources())

    def run(self) -> Any:
        """Make every missing shard; the first task that fails or dies stops the others.

        Raises:
            StageError: a task failed, or asks for more than the cluster has.
        """
        with connection():
            import ray

            self._refuse_too_small(ray.cluster_resources())
            waiting = deque(self.get_incomplete_ranks())
            busy = dict[Any, int]()
            # Stored in the cluster once, instead of sent with every task.
            executor = ray.put(self)
            task = ray.remote(_make_shard).options(**self._options())
            try:
                while waiting or busy:
                    while waiting and len(busy) < self.workers:
                        rank = waiting.popleft()
                        busy[task.remote(executor, rank)] = rank
                    for reference in ray.wait(list(busy))[0]:
                        self._check_result(reference, busy.pop(reference))
            finally:
                for reference in busy:
                    ray.cancel(reference, force=True)

    def _options(self) -> dict[str, Any]:
        options = {"num_cpus": self.cpus_per_task, "num_gpus": self.gpus_per_task, "max_retries": 0}
        if memory := self.mem_per_cpu_gb * self.cpus_per_task * GIGABYTE:
            options["memory"] = memory
        return options

    def _refuse_too_small(self, cluster: dict[str, float]) -> None:
        """Refuse a task that no node can run: Ray would wait for such a node for ever, silently."""
        for name, count in {"CPU": self.cpus_per_task, "GPU": self.gpus_per_task}.items():
            available = cluster.get(name, 0)
            if available < count:
                raise StageError(
                    f"SAFELM_TASK_{name}S: expected at most the {available:.0f} of the whole Ray "
                    f"cluster (got {count}); lower it, or add nodes before the stage begins"
                )

    def _check_result(self, reference: Any, rank: int) -> None:
        import ray

        try:
            failure = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            # Before the work began: the work returns its errors.
            failure = f"a worker of Ray could not begin: {str(error).strip().splitlines()[-1]}"
        except ray.exceptions.RayError as error:
            cause = describe_error(error).partition("\n")[0]
            failure = f"its worker died ({cause}); finished shards are kept, run the stage again"
        if failure:
            raise self.failure(rank, failure)
        self.finished(rank)


def _make_shard(executor: RayExecutor, rank: int) -> str | None:
    """Make one shard in a worker of Ray; return its error, if any, in one line."""
    try:
        executor._run_for_rank(rank)
    except Exception as error:
        return describe_error(error)
    return None


@contextmanager
def connection() -> Iterator[None]:
    """Connect to Ray for as long as the block runs."""
    address = os.environ.get("RAY_ADDRESS")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    if not address:
        # Has Ray take the loopback address as the node's own, on Linux too, whatever its name
        # says. It is read when ray is imported.
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"
    try:
        import ray
    except ImportError as error:
        raise StageError(
            "SAFELM_EXECUTOR=ray: the package ray is not installed; run `make cluster`, or unset it"
        ) from error
    with tempfile.TemporaryDirectory(prefix="safelm-ray-") as folder:
        own_cluster = {
            "address": "local",
            "num_cpus": workers(),
            "object_store_memory": OBJECT_STORE,
            "_temp_dir": folder,
        }
        cluster = {"address": address} if address else own_cluster
        ray.init(
            **cluster,
            include_dashboard=False,
            job_config=ray.job_config.JobConfig(code_search_path=[str(ROOT)]),
            log_to_driver=False,
            logging_level=logging.ERROR,
        )
        try:
            yield
        finally:
            ray.shutdown()
