"""The environment of a build: variables that say how many processes and GPUs it uses, and limits.

They change no byte of any output, so they are not parameters of params.yaml.
"""

import os
import platform
import resource

# Torch, MKL, oneDNN, numpy and its OpenBLAS choose their kernels by the CPU, and those of AVX-512
# round otherwise. All x86 machines of ten years have AVX2, which is as fast on small models.
INSTRUCTIONS = {
    "ATEN_CPU_CAPABILITY": "avx2",
    "MKL_CBWR": "AVX2",
    "ONEDNN_MAX_CPU_ISA": "AVX2",
    "OPENBLAS_CORETYPE": "Haswell",
    "NPY_DISABLE_CPU_FEATURES": (
        "AVX512F AVX512CD AVX512_SKX AVX512_CLX AVX512_CNL AVX512_ICL AVX512_SPR"
    ),
}
UNLIMITED = "run `ulimit -f unlimited`, then the same command again"


class VariableError(ValueError):
    """An environment variable has a value that cannot be used."""


def fix_instructions() -> None:
    """Let this process, and those that it starts, compute alike on every x86 machine.

    Call it before numpy or torch is imported. A variable that is set already stays as it is.
    """
    if platform.machine() in ("x86_64", "AMD64"):
        for variable, value in INSTRUCTIONS.items():
            os.environ.setdefault(variable, value)


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
    # Not os.cpu_count(): taskset or a container may allow fewer cores than the machine has.
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
