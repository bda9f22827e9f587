"""The training process: its environment, start and supervision."""

import os
import subprocess
import sys
from functools import partial
from pathlib import Path
from signal import SIGTERM

from safelm.builder.environment import environment_number
from safelm.builder.supervision import die_with_parent
from safelm.builder.workers import describe_exit

ROOT = Path(__file__).resolve().parents[2]


class TrainingError(RuntimeError):
    """A model that could not be trained as planned."""


def run_training(run: Path, ranks: int) -> None:
    """Run the training process, or one per rank under torchrun, until it ends.

    Raises:
        TrainingError: the process failed.
    """
    command = [sys.executable, "-m", "safelm.pretraining.worker"]
    if ranks > 1:
        torchrun = ["-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}"]
        command = [sys.executable, *torchrun, *command[1:]]
    # Not SIGKILL, because torchrun must end its workers.
    end_with_stage = partial(die_with_parent, os.getpid(), SIGTERM)
    done = subprocess.run(command, cwd=run, env=environment(ranks), preexec_fn=end_with_stage)
    if done.returncode:
        cause = describe_exit(done.returncode)
        raise TrainingError(
            f"{run}: the training process ended with {cause}; its own message is above"
        )


def environment(ranks: int) -> dict[str, str]:
    """Return the environment of a training process."""
    search_path = filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])
    values = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(search_path),
        # More threads may change the last bit of a sum.
        "OMP_NUM_THREADS": str(environment_number("SAFELM_THREADS") or 1),
        # Nanotron asserts it for tensor parallelism (parallel/utils.py:18).
        "CUDA_DEVICE_MAX_CONNECTIONS": "1",
        # Nanotron logs to wandb wherever that is installed (trainer.py:476).
        "WANDB_MODE": "disabled",
        # Keep freed buffers in the process: allocating the logits again takes a tenth of a step.
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    }
    if ranks == 1:
        # Otherwise torchrun sets these.
        values |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    return values
