"""Shards made on a cluster: the same plan, the same keys and the same store as on one machine, over a shared folder.

The folder of the project, with its cache and its .venv, must be there under the same path on every node. What a task
may use is read from the environment, for it changes no byte.
"""

from typing import Any

from loguru import logger

from safelm.paths import number

logger.disable("datatrove.executor")  # what it says to the screen; what a task says goes to the log of the task


def resources() -> dict[str, Any]:
    """What each task may use and how many run at once, as DataTrove's executors of clusters name it; 0 GB: not said."""
    return {
        "cpus_per_task": number("SAFELM_TASK_CPUS") or 1,
        "gpus_per_task": number("SAFELM_TASK_GPUS") or 0,
        "mem_per_cpu_gb": number("SAFELM_TASK_MEMORY") or 0,
        "workers": number("SAFELM_WORKERS") or -1,
    }
