"""A training process, one for each rank; launch.py starts it in the folder of the run.

python -m safelm.pretraining.worker
"""

import os
from pathlib import Path

import torch
import torch.distributed

from safelm.pretraining import patches
from safelm.pretraining.job import CONFIG, Job


def main() -> None:
    """Patch Nanotron, join the other ranks, train."""
    job = Job.read(Path())
    join()
    patches.install(job.rope_theta, job.decay_style, Path(job.start) if job.start else None)
    from safelm.pretraining.trainer import (
        PlanTrainer,  # imports Nanotron, so it comes behind the patches
    )

    PlanTrainer(Path(CONFIG), job).run()
    torch.distributed.destroy_process_group()


def join() -> None:
    """Make the process group, which Nanotron does on CUDA alone (distributed.py:258). One rank
    needs no port for it.
    """
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if int(os.environ["WORLD_SIZE"]) == 1:
        torch.distributed.init_process_group(
            backend, store=torch.distributed.HashStore(), rank=0, world_size=1
        )
    elif backend == "gloo":
        torch.distributed.init_process_group(backend)


if __name__ == "__main__":
    main()
