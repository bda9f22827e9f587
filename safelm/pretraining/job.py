"""What the training process is told: one small JSON file in the folder of the run, which is its
working directory.
"""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

JOB = "job.json"
CONFIG = "nanotron.yaml"


@dataclass(frozen=True)
class Job:
    """A run: whose rows it reads (a folder of build/mix), and what Nanotron's own configuration
    cannot say.
    """

    model: str
    mixture: str
    seed: int
    rope_theta: float
    decay_style: Literal["linear", "cosine", "1-sqrt"]
    key: str  # what makes this run this run: its checkpoints bear it
    every: int  # steps between checkpoints
    start: str | None  # the checkpoint that training goes on from
    flops: float  # of a token, forward and backward
    plots: str  # where the pace of the run is written to
    shared: dict[
        str, str
    ]  # steps at which the checkpoint is shared, and the folder that it is shared as

    def write(self, folder: Path) -> None:
        """job.json."""
        (folder / JOB).write_text(
            json.dumps(asdict(self), indent=1, sort_keys=True) + "\n", encoding="utf-8"
        )

    @classmethod
    def read(cls, folder: Path) -> "Job":
        """The job of a folder."""
        values: dict[str, Any] = json.loads((folder / JOB).read_bytes())
        return cls(**values)
