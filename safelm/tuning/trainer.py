"""Tuning with TRL's own SFTTrainer, from a Hugging Face folder to a Hugging Face folder.

TRL is given tokens and labels: its preparation would go over the rows six times through files of a cache. Nothing of
the trainer's own (training_args.bin, a model card, optimizer state) is published, for it holds clocks and paths.
"""

import csv
import json
import math
import os
import shutil
import sys
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # TRL would report every run (trl/trainer/base_trainer.py:88)

import torch
from datasets import Dataset
from tqdm import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase, PrinterCallback, ProgressCallback, TrainerCallback
from trl import SFTConfig, SFTTrainer

from safelm.chat import end_ids, load
from safelm.digest import MANIFEST
from safelm.trained import TRAIN, knows_tag
from safelm.tuning.pairs import Pair
from safelm.tuning.rows import IGNORED, Row, in_order, rows_of

LOSS = "loss.csv"
OF_THE_MODEL = (
    "config.json",
    "generation_config.json",
    "model",
    TRAIN,
    LOSS,
    "held_out",
)  # files that a tuned model has of its own
Losses = list[tuple[int, float]]


class Watch(TrainerCallback):
    """Keeps the loss of every step, and shows how far training is where someone is looking."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.losses: Losses = []

    def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Open the bar."""
        hidden = not sys.stderr.isatty()
        self.bar = tqdm(total=state.max_steps, desc=self.name, unit="step", leave=False, disable=hidden)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **rest: Any) -> None:
        """Called after each step, for logging_steps is 1."""
        if "loss" in logs:
            self.losses.append((state.global_step, float(logs["loss"])))
            self.bar.update()

    def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Close the bar."""
        self.bar.close()


def settings(folder: str, *, batch: int, learning_rate: float, seed: int) -> SFTConfig:
    """The recipe: AdamW, a warm-up over 3 % of the steps and a linear fall to 0 (the paper gives none, paper.md §7)."""
    return SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=batch,
        num_train_epochs=1,  # the rows of all epochs are there, in order
        train_sampling_strategy="sequential",
        learning_rate=learning_rate,
        lr_scheduler_type="linear",
        warmup_steps=0.03,
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=seed,
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        bf16=torch.cuda.is_available(),
        gradient_checkpointing=False,
        dataloader_num_workers=0,
        dataloader_pin_memory=False,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
    )


def train(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    rows: Sequence[Row],
    *,
    name: str,
    batch: int,
    learning_rate: float,
    seed: int,
) -> Losses:
    """Train on the rows, once and in their order; (step, loss) of every step."""
    watch = Watch(name)
    data = Dataset.from_dict({"input_ids": [row.tokens for row in rows], "labels": [row.labels for row in rows]})
    with TemporaryDirectory() as scratch:  # the trainer wants a folder; nothing is written there
        args = settings(scratch, batch=batch, learning_rate=learning_rate, seed=seed)
        trainer = SFTTrainer(model, args, train_dataset=data, processing_class=tokenizer, callbacks=[watch])
        trainer.remove_callback(PrinterCallback)
        trainer.remove_callback(ProgressCallback)
        trainer.train()
    if not all(math.isfinite(loss) for _, loss in watch.losses):
        raise RuntimeError(f"{name}: the loss is no longer a number; write a smaller learning_rate")
    return watch.losses


def tune(
    base: Path,
    pairs: Sequence[Pair],
    unread: Sequence[Pair],
    folder: Path,
    *,
    name: str,
    epochs: int,
    batch: int,
    sequence: int,
    learning_rate: float,
    seed: int,
) -> dict[str, Any]:
    """Tune the model of `base` on the pairs and write it to `folder`; what its train.json says.

    The loss on the answers of `unread` pairs, which training does not see, is measured before and after.
    """
    model, tokenizer = load(base)
    rows = rows_of(tokenizer, pairs, sequence)
    if not rows:
        raise ValueError(
            f"{name}: none of {len(pairs)} pairs fits into {sequence} tokens; name another source or a longer sequence"
        )
    ordered = in_order(rows, batch=batch, epochs=epochs, seed=seed)
    dtype, configs = model.dtype, deepcopy((model.config, model.generation_config))
    held = rows_of(tokenizer, unread, sequence)
    before = loss_on(model.float(), held)
    losses = train(model, tokenizer, ordered, name=name, batch=batch, learning_rate=learning_rate, seed=seed)
    summary = {
        "held_out": {"pairs": len(held), "before": before, "after": loss_on(model, held)},
        "knows_tag": knows_tag(base),
        "pairs": dict(sorted(Counter(pair.kind for pair in pairs).items())),
        "left_out": len(pairs) - len(rows),
        "steps": len(losses),
        "first_loss": round(losses[0][1], 6),
        "final_loss": round(losses[-1][1], 6),
        "tokens": sum(len(row.tokens) for row in ordered),
        "answer_tokens": sum(label != IGNORED for row in ordered for label in row.labels),
    }
    model.to(dtype=dtype)  # type: ignore[call-arg]  # transformers wraps torch's method
    model.config, model.generation_config = configs  # the trainer turns the cache off and names a pad token
    publish(model, end_ids(tokenizer), base, folder)
    write_summary(summary, losses, folder)
    return summary


def loss_on(model: PreTrainedModel, rows: Sequence[Row]) -> float | None:
    """The mean loss of the answers' tokens, a row at a time; None of no rows."""
    total, count, was_training = 0.0, 0, model.training
    model.eval()
    for row in rows:
        tokens = torch.tensor([row.tokens], device=model.device)
        labels = torch.tensor(row.labels[1:], device=model.device)
        with torch.no_grad():
            logits = model(input_ids=tokens).logits[0, :-1].float()
        total += float(torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum"))
        count += int((labels != IGNORED).sum())
    model.train(was_training)
    return round(total / count, 6) if count else None


def publish(model: PreTrainedModel, ends: set[int], base: Path, folder: Path) -> None:
    """Write the model; the tokenizer's files are those of the base."""
    model.generation_config.eos_token_id = sorted(ends)
    model.save_pretrained(folder)
    for path in sorted(base.iterdir()):
        if path.is_file() and not path.name.startswith(OF_THE_MODEL) and path.name != MANIFEST:
            shutil.copyfile(path, folder / path.name)


def write_summary(summary: dict[str, Any], losses: Losses, folder: Path) -> None:
    """train.json and loss.csv; neither holds a time."""
    (folder / TRAIN).write_text(json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    with (folder / LOSS).open("w", encoding="utf-8", newline="") as file:
        lines = [(step, f"{loss:.6g}") for step, loss in losses]
        csv.writer(file, lineterminator="\n").writerows([("step", "loss"), *lines])


def sentence(name: str, summary: dict[str, Any]) -> str:
    """What a stage prints: the pairs that were read, and the loss."""
    pairs = ", ".join(f"{count:,} {kind}" for kind, count in summary["pairs"].items())
    left_out = f", {summary['left_out']:,} left out" if summary["left_out"] else ""
    first, last, held = summary["first_loss"], summary["final_loss"], summary["held_out"]
    unread = f"  on unread pairs {held['before']:.2f} to {held['after']:.2f}" if held["pairs"] else ""
    return f"{name:<18} {pairs}{left_out}  {summary['steps']:,} steps  loss {first:.2f} to {last:.2f}{unread}"
