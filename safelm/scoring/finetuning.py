"""LP-FT with the trainer of transformers: the head of an encoder first, then all of it (Kumar et al. 2022)."""

import math
import sys
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import (
    DataCollatorWithPadding,
    PrinterCallback,
    ProgressCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from safelm.hazards import LEVELS
from specs.scorer import Step

Losses = list[tuple[str, int, float]]


class Watch(TrainerCallback):
    """Keeps the loss of every update, and shows how far training is where someone is looking."""

    def __init__(self, trains: str) -> None:
        self.trains, self.losses = trains, Losses()

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Open the bar."""
        hidden = not sys.stderr.isatty()
        self.bar = tqdm(total=state.max_steps, desc=f"fit {self.trains}", unit="step", leave=False, disable=hidden)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        """Called after each update, for logging_steps is 1."""
        if "loss" in logs:
            self.losses.append((self.trains, state.global_step, float(logs["loss"])))
            self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Close the bar."""
        self.bar.close()


def weighted_loss(weights: torch.Tensor) -> Any:
    """Cross-entropy in which a document counts by its score's weight: λ above 0, 1 at 0 (paper §1.3)."""

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        losses = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, reduction="none")
        return (losses * weights.to(labels.device)[labels]).sum() / (num_items_in_batch or len(labels))

    return loss


def settings(folder: str, step: Step, warmup: float, seed: int) -> TrainingArguments:
    """AdamW with a linear fall to 0; the paper gives neither schedule nor warm-up."""
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=step.epochs,
        per_device_train_batch_size=step.batch,
        learning_rate=step.learning_rate,
        weight_decay=step.weight_decay,
        lr_scheduler_type="linear",
        warmup_steps=warmup,
        seed=seed,
        dataloader_pin_memory=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def finetune(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    scores: Sequence[int],
    *,
    steps: Sequence[Step],
    warmup: float,
    sequence: int,
    unsafe_weight: float,
    seed: int,
) -> Losses:
    """Train in steps; (what was trained, update, loss) of every update.

    A label is of a whole document: of a longer one the first chunk is trained on.
    """
    coded = tokenizer(list(texts), truncation=True, max_length=sequence)
    data = Dataset.from_dict({"input_ids": coded["input_ids"], "labels": list(scores)})
    weights = torch.tensor([1.0] + [unsafe_weight] * (LEVELS - 1))
    losses: Losses = []
    for step in steps:
        set_seed(seed)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = step.trains == "all" or not name.startswith(f"{model.base_model_prefix}.")
        watch = Watch(step.trains)
        with TemporaryDirectory() as scratch:  # the trainer wants a folder; nothing is written there
            trainer = Trainer(
                model, settings(scratch, step, warmup, seed), train_dataset=data, callbacks=[watch],
                data_collator=DataCollatorWithPadding(tokenizer), compute_loss_func=weighted_loss(weights),
            )  # fmt: skip
            trainer.remove_callback(PrinterCallback)
            trainer.remove_callback(ProgressCallback)
            trainer.train()
        losses += watch.losses
    if not all(math.isfinite(loss) for _, _, loss in losses):
        raise RuntimeError("embedding: the loss is no longer a number; write a recipe with a smaller learning_rate")
    return losses
