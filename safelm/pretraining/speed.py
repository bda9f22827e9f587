"""The speed of a run in tokens per second and MFU, for DVC's plots.

Speeds depend on the machine and its load, so no output of a stage contains them.
"""

import csv
import time
from collections.abc import Callable
from pathlib import Path

import torch

from safelm.builder.files import make_parent
from safelm.pretraining.cost import GPUS

# A point of the plots is the mean of so many steps.
STEPS_PER_POINT = 10
COLUMNS = ("tokens_per_second", "mfu")


def peak_flops(clock: Callable[[], float] = time.perf_counter) -> float | None:
    """Return the FLOP/s of the device.

    For a GPU it is the number of its data sheet, or None if it is not listed; for a CPU the speed
    of a matrix product.
    """
    if torch.cuda.is_available():
        device = torch.cuda.get_device_name().lower()
        for name, gpu in GPUS.items():
            if name in device:
                return gpu.flops
        return None
    size = 768
    matrix = torch.ones(size, size)
    seconds = []
    # The fastest of five, because the first one warms up and others may be interrupted.
    for _ in range(5):
        began = clock()
        matrix @ matrix
        seconds.append(clock() - began)
    # Each of size² sums has `size` products and additions.
    return 2 * size**3 / min(seconds)


class SpeedLog:
    """Speeds of a run over all ranks; `step` is called once per step."""

    def __init__(self, flops_per_token: float, ranks: int) -> None:
        self.flops_per_token = flops_per_token
        self.ranks = ranks
        self.peak = peak_flops()
        self.points: list[tuple[int, float, float | None]] = []
        # Time and tokens at the last point.
        self.last: tuple[float, int] | None = None

    def step(self, number: int, tokens: int) -> None:
        """Count a step; `tokens` are those read since the start."""
        now = time.perf_counter()
        is_point = number % STEPS_PER_POINT == 0
        if self.last and is_point:
            rate = (tokens - self.last[1]) / (now - self.last[0])
            mfu = None
            if self.peak:
                mfu = rate * self.flops_per_token / (self.ranks * self.peak)
            self.points.append((number, rate, mfu))
        # The first step only starts the clock: it is slower than the others.
        if self.last is None or is_point:
            self.last = now, tokens

    def write(self, folder: Path, model: str) -> None:
        """Write <column>/<model>.csv for each column."""
        # DVC draws one plot per folder.
        for column, name in enumerate(COLUMNS, 1):
            path = folder / name / f"{model}.csv"
            make_parent(path)
            values = [(point[0], point[column]) for point in self.points]
            # The MFU is unknown on a GPU that is not listed.
            rows = [(step, f"{value:.4g}") for step, value in values if value is not None]
            with path.open("w", encoding="utf-8", newline="") as file:
                writer = csv.writer(file, lineterminator="\n")
                writer.writerow(["step", name])
                writer.writerows(rows)
