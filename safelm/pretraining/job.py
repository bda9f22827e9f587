"""Settings of the training process, handed over as a JSON file in the folder of the run."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

from safelm.builder.files import write_json
from safelm.pretraining.schedule import DecayStyle

JOB = "job.json"
CONFIG = "nanotron.yaml"


@dataclass(frozen=True)
class Job:
    """Settings of a training process beyond Nanotron's own configuration.

    The folder of the run is its working directory.

    Attributes:
        mixture: the folder of build/mix whose rows are read.
        key: identifies the run; its checkpoints have the same key.
        checkpoint_interval: steps between checkpoints.
        start: the checkpoint to continue from, or None.
        flops_per_token: forward and backward.
        plots: the folder that gets the speed of the run.
        shared: steps at which the checkpoint is shared, and the folder to share it as.
    """

    model: str
    mixture: str
    seed: int
    rope_theta: float
    decay_style: DecayStyle
    key: str
    checkpoint_interval: int
    start: str | None
    flops_per_token: float
    plots: str
    shared: dict[str, str]

    def write(self, folder: Path) -> None:
        """Write job.json."""
        write_json(folder / JOB, asdict(self), sort_keys=True)

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """Read the job of a folder."""
        return cls(**json.loads((folder / JOB).read_bytes()))
