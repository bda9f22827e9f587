"""The training process of one rank, started by process.py in the folder of the run.

python -m safelm.pretraining.worker
"""

import os
from pathlib import Path

import torch
import torch.distributed

from safelm.pretraining import patches
from safelm.pretraining.job import CONFIG, Job


def main() -> None:
    """Patch Nanotron, join the other ranks and train."""
    job = Job.read(Path())
    join()
    patches.install(job.rope_theta, job.decay_style, Path(job.start) if job.start else None)
    # Imported here, because it imports Nanotron, which must be patched first.
    from safelm.pretraining.trainer import PlanTrainer

    PlanTrainer(Path(CONFIG), job).run()
    torch.distributed.destroy_process_group()


def join() -> None:
    """Create the process group, which Nanotron does on CUDA alone (distributed.py:258)."""
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    if int(os.environ["WORLD_SIZE"]) == 1:
        # One rank needs no port.
        store = torch.distributed.HashStore()
        torch.distributed.init_process_group(backend, store=store, rank=0, world_size=1)
    elif backend == "gloo":
        torch.distributed.init_process_group(backend)


if __name__ == "__main__":
    main()
