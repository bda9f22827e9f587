"""Trainers of transformers, watched: quiet, saving nothing, with the loss of every update kept.

What `fit` (an encoder) and the two tunings (TRL) have in common.
"""

import math
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

Losses = list[tuple[int, float]]  # (update, loss)
COMMON: dict[
    str, Any
] = {  # of TrainingArguments; what a trainer would write holds clocks and paths
    "lr_scheduler_type": "linear",
    "dataloader_pin_memory": False,
    "logging_steps": 1,
    "logging_nan_inf_filter": False,
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
}


class Watch(TrainerCallback):
    """Keeps the loss of every update, and shows how far training is where someone is looking."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.losses: Losses = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Open the bar."""
        hidden = not sys.stderr.isatty()
        self.bar = tqdm(
            total=state.max_steps, desc=self.name, unit="step", leave=False, disable=hidden
        )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        """Called after each update, for logging_steps is 1."""
        if "loss" in logs:
            self.losses.append((state.global_step, float(logs["loss"])))
            self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Close the bar."""
        self.bar.close()


def train(name: str, trainer: Callable[[str], Trainer]) -> Losses:
    """Train with the trainer that is made for a folder, in which nothing is left; (update, loss) of
    every update.

    It trains on one GPU: left to itself, it would take a batch for each that the machine has.
    """
    watch = Watch(name)
    with TemporaryDirectory() as scratch:  # the trainer wants a folder
        made = trainer(scratch)
        made.args._n_gpu, made._train_batch_size = 1, made.args.per_device_train_batch_size
        made.remove_callback(PrinterCallback)
        made.remove_callback(ProgressCallback)
        made.add_callback(watch)
        made.train()
    if not all(math.isfinite(loss) for _, loss in watch.losses):
        raise RuntimeError(f"{name}: the loss is no longer a number; write a smaller learning_rate")
    return watch.losses
