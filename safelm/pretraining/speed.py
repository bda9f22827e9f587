"""Tokens a second and MFU of a run, for the screen and for DVC's plots. They hold a clock, so no
output has them.
"""

import csv
import time
from collections.abc import Callable
from pathlib import Path

import torch

from safelm.pretraining.cost import GPUS

EVERY = 10  # steps that a point of the plots is the mean of
NAMES = ("tokens_per_second", "mfu")


def peak(clock: Callable[[], float] = time.perf_counter) -> float | None:
    """FLOP/s of the device: of a GPU by its data sheet (None if not listed), of a CPU what a matrix
    product reaches.
    """
    if torch.cuda.is_available():
        name = torch.cuda.get_device_name().lower()
        return next((gpu.flops for key, gpu in GPUS.items() if key in name), None)
    matrix = torch.ones(768, 768)
    seconds = []
    for _ in range(5):
        began = clock()
        matrix @ matrix
        seconds.append(clock() - began)
    return 2 * 768**3 / min(seconds)


class Speed:
    """The pace of a run: called once a step with the tokens read so far, over all ranks."""

    def __init__(self, flops: float, ranks: int) -> None:
        self.flops, self.ranks, self.peak = flops, ranks, peak()
        self.rows: list[tuple[int, float, float | None]] = []
        self.since: tuple[float, int] | None = None

    def step(self, number: int, tokens: int) -> None:
        """Count a step; every tenth gives a point."""
        now = time.perf_counter()
        if self.since and number % EVERY == 0:
            rate = (tokens - self.since[1]) / (now - self.since[0])
            self.rows.append(
                (number, rate, rate * self.flops / (self.ranks * self.peak) if self.peak else None)
            )
        if self.since is None or number % EVERY == 0:
            self.since = now, tokens

    def write(self, folder: Path, model: str) -> None:
        """A file of its own for each figure and model: DVC draws one folder as one plot."""
        for column, name in enumerate(NAMES, 1):
            path = folder / name / f"{model}.csv"
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["step", name])
                writer.writerows(
                    (row[0], f"{row[column]:.4g}") for row in self.rows if row[column] is not None
                )
