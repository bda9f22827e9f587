"""The environment of a build: variables that say how many processes and GPUs it uses, and limits.

They change no byte of any output, so they are not parameters of params.yaml.
"""

import os
import resource

UNLIMITED = "run `ulimit -f unlimited`, then the same command again"


class VariableError(ValueError):
    """An environment variable has a value that cannot be used."""


def environment_number(variable: str) -> int | None:
    """Read a whole number above 0 from the environment; None where the variable is not set.

    Raises:
        VariableError: the variable has any other value.
    """
    value = os.environ.get(variable)
    if not value:
        return None
    # Not isdigit(), which accepts "²" as well.
    if not value.isdecimal() or int(value) == 0:
        raise VariableError(
            f"{variable}: expected a whole number above 0 (got {value!r}); unset it for the default"
        )
    return int(value)


def workers() -> int:
    """Return how many processes a stage may use: SAFELM_WORKERS, else the cores it may run on."""
    return environment_number("SAFELM_WORKERS") or len(os.sched_getaffinity(0))


def task_resources() -> dict[str, int]:
    """Return what one task may use and how many run at once, as DataTrove's executors name it.

    0 GB of memory means that none is requested, -1 workers that there is no limit.
    """
    return {
        "cpus_per_task": environment_number("SAFELM_TASK_CPUS") or 1,
        "gpus_per_task": environment_number("SAFELM_TASK_GPUS") or 0,
        "mem_per_cpu_gb": environment_number("SAFELM_TASK_MEMORY") or 0,
        "workers": environment_number("SAFELM_WORKERS") or -1,
    }


def file_size_limit() -> str:
    """Say how large a file may become, where `ulimit -f` sets a limit; "" where it does not."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    if limit == resource.RLIM_INFINITY:
        return ""
    return f"lets no file grow beyond {limit:,} bytes"
