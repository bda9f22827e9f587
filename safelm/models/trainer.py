"""Training with the trainers of transformers: quiet, saving nothing, keeping every loss.

`fit` (an encoder) and the two tunings (TRL) share it.
"""

import math
import sys
from collections.abc import Callable
from tempfile import TemporaryDirectory
from typing import Any

from tqdm import tqdm
from transformers import PrinterCallback, ProgressCallback, Trainer, TrainerCallback

# (update, loss)
Losses = list[tuple[int, float]]

# TrainingArguments.
COMMON: dict[str, Any] = {
    "lr_scheduler_type": "linear",
    "dataloader_pin_memory": False,
    "logging_steps": 1,
    # By default an average of earlier losses is logged in place of NaN, so `train` would miss it.
    "logging_nan_inf_filter": False,
    # A trainer's own files contain times and paths.
    "save_strategy": "no",
    "report_to": [],
    "disable_tqdm": True,
}


class LossRecorder(TrainerCallback):
    """The loss of every update, and a progress bar in a terminal."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.losses: Losses = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Open the progress bar."""
        self.bar = tqdm(
            total=state.max_steps,
            desc=self.name,
            unit="step",
            leave=False,
            disable=not sys.stderr.isatty(),
        )

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        """Record the loss of an update; logging_steps is 1."""
        if "loss" in logs:
            self.losses.append((state.global_step, float(logs["loss"])))
            self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Close the progress bar."""
        self.bar.close()


def train(name: str, make_trainer: Callable[[str], Trainer]) -> Losses:
    """Train and return the loss of every update.

    Args:
        name: the stage, for messages.
        make_trainer: makes the trainer for a temporary folder.

    Raises:
        RuntimeError: a loss is not finite.
    """
    recorder = LossRecorder(name)
    with TemporaryDirectory() as folder:
        trainer = make_trainer(folder)
        # Use one GPU: by default a trainer takes a batch for each GPU of the machine.
        trainer.args._n_gpu = 1
        trainer._train_batch_size = trainer.args.per_device_train_batch_size
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.add_callback(recorder)
        trainer.train()
    if not all(math.isfinite(loss) for _, loss in recorder.losses):
        raise RuntimeError(f"{name}: the loss is not finite; write a smaller learning_rate")
    return recorder.losses
