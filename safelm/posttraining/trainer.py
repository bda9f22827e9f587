"""Tuning with TRL's SFTTrainer, from one Hugging Face folder to another.

The trainer's own files (training_args.bin, a model card, optimizer state) are not published,
because they contain times and paths.
"""

import csv
import json
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from transformers import PreTrainedTokenizerBase, TrainerCallback
from trl import SFTConfig, SFTTrainer

from safelm.builder.files import Json, write_json
from safelm.models import CHECKPOINTS, TRAIN, knows_tag
from safelm.models.chat import answer_tokens, end_ids, load
from safelm.models.trainer import COMMON, Losses, train
from safelm.posttraining.model import LOSS, copy_model, mean_loss, save_model
from safelm.posttraining.pairs import Pair
from safelm.posttraining.rows import IGNORED, Row, order_rows, rows_of

Schedule = Literal["linear", "constant"]


class CheckpointCallback(TrainerCallback):
    """Calls `keep` after the given optimizer updates."""

    def __init__(self, updates: Collection[int], keep: Callable[[int], None]) -> None:
        self.updates = updates
        self.keep = keep

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Keep the model after this update if it is one of `updates`."""
        if state.global_step in self.updates:
            self.keep(state.global_step)


def sft_config(
    folder: str,
    *,
    batch_size: int,
    learning_rate: float,
    seed: int,
    schedule: Schedule,
) -> SFTConfig:
    """Return the training arguments: AdamW, a warm-up over 3 % of the steps, a linear decay to 0.

    The settings are ours: the paper gives none (paper §7). A constant schedule has neither warm-up
    nor decay.
    """
    return SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=batch_size,
        # The data set has the rows of all epochs, in order.
        num_train_epochs=1,
        train_sampling_strategy="sequential",
        learning_rate=learning_rate,
        warmup_steps=0.03,
        weight_decay=0.0,
        max_grad_norm=1.0,
        # The order of the rows is already drawn; this seed only fixes the trainer's own draws.
        seed=seed,
        # Rows are tokenized already; TRL's own preparation would pass them through files six times.
        dataset_kwargs={"skip_prepare_dataset": True},
        max_length=None,
        bf16=torch.cuda.is_available(),
        gradient_checkpointing=False,
        dataloader_num_workers=0,
        **COMMON | {"lr_scheduler_type": schedule},
    )


def tune(
    base: Path,
    pairs: Sequence[Pair],
    unread: Sequence[Pair],
    folder: Path,
    *,
    name: str,
    epochs: int,
    batch_size: int,
    sequence_length: int,
    learning_rate: float,
    seed: int,
    checkpoints: Sequence[int] = (),
    schedule: Schedule = "linear",
) -> Json:
    """Tune a model on pairs.

    Args:
        base: the model's folder.
        pairs: the pairs to train on.
        unread: pairs whose loss is measured before, after, and at each checkpoint.
        folder: gets the tuned model, train.json and loss.csv.
        name: the stage, for messages.
        epochs: how often every pair is read.
        batch_size: pairs in an update.
        sequence_length: the most tokens of a pair.
        learning_rate: the peak learning rate.
        seed: seeds the order of the pairs.
        checkpoints: pairs after which the model is kept in checkpoints/<pairs>; rounded down to
            whole batches.
        schedule: the learning rate's schedule.

    Returns:
        The contents of train.json.

    Raises:
        ValueError: no pair fits into `sequence_length`, or a checkpoint is not before the end.
    """
    model, tokenizer = load(base)
    rows = rows_of(tokenizer, pairs, sequence_length)
    if not rows:
        raise ValueError(
            f"{name}: none of {len(pairs)} pairs fits into {sequence_length} tokens; "
            "name another source or write a larger sequence_length"
        )
    check_checkpoints(checkpoints, len(rows) * epochs, name)
    ordered = order_rows(rows, batch=batch_size, epochs=epochs, seed=seed)
    held_out = rows_of(tokenizer, unread, sequence_length)
    # The trainer changes the type and the configuration of the model while it trains.
    original = model.dtype, deepcopy(model.config), deepcopy(model.generation_config)
    ends = end_ids(tokenizer)
    is_tagged = knows_tag(base)
    checkpoint_losses = {}

    def keep(update: int) -> None:
        pairs_read = update * batch_size
        kept = folder / CHECKPOINTS / str(pairs_read)
        save_model(copy_model(model, *original), ends, base, kept)
        checkpoint_losses[pairs_read] = mean_loss(model, held_out)
        (kept / TRAIN).write_text(json.dumps({"knows_tag": is_tagged}) + "\n", encoding="utf-8")

    def make_trainer(scratch: str) -> SFTTrainer:
        config = sft_config(
            scratch,
            batch_size=batch_size,
            learning_rate=learning_rate,
            seed=seed,
            schedule=schedule,
        )
        # Rounded down, because a model can only be kept after a whole update.
        updates = [pairs_read // batch_size for pairs_read in checkpoints]
        return SFTTrainer(
            model,
            config,
            train_dataset=_dataset(ordered),
            processing_class=tokenizer,
            callbacks=[CheckpointCallback(updates, keep)],
        )

    # float32, as in training: bfloat16 weights would lose small updates.
    loss_before = mean_loss(model.float(), held_out)
    losses = train(name, make_trainer)
    summary = {
        "held_out": {
            "pairs": len(held_out),
            "before": loss_before,
            "after": mean_loss(model, held_out),
            "checkpoints": checkpoint_losses,
        },
        "knows_tag": is_tagged,
        "steps": len(losses),
        # Further digits differ between mathematics libraries.
        "first_loss": round(losses[0][1], 6),
        "final_loss": round(losses[-1][1], 6),
        **count_pairs(tokenizer, pairs, rows, ordered),
    }
    save_model(copy_model(model, *original), ends, base, folder)
    write_summary(summary, losses, folder)
    return summary


def check_checkpoints(checkpoints: Sequence[int], pairs_read: int, name: str) -> None:
    """Raise ValueError if a checkpoint is not before the end of training."""
    if max(checkpoints, default=0) >= pairs_read:
        fitting = [checkpoint for checkpoint in checkpoints if checkpoint < pairs_read]
        raise ValueError(
            f"{name}: expected checkpoints below the {pairs_read:,} pairs that are read "
            f"(got {[*checkpoints]}); write checkpoints: {fitting}"
        )


def count_pairs(
    tokenizer: PreTrainedTokenizerBase,
    pairs: Sequence[Pair],
    rows: Sequence[Row],
    ordered: Sequence[Row],
) -> Json:
    """Count pairs by kind, pairs left out or cut off, and the tokens read."""
    # Every answer ends with this token, unless it was cut off.
    end_of_turn = answer_tokens(tokenizer, [""])[0][-1:]
    return {
        "pairs": dict(sorted(Counter(pair.kind for pair in pairs).items())),
        "left_out": len(pairs) - len(rows),
        "cut": sum(row.tokens[-1:] != end_of_turn for row in rows),
        "tokens": sum(len(row.tokens) for row in ordered),
        "answer_tokens": sum(len(row.labels) - row.labels.count(IGNORED) for row in ordered),
    }


def _dataset(rows: Sequence[Row]) -> Dataset:
    tokens = [row.tokens for row in rows]
    labels = [row.labels for row in rows]
    return Dataset.from_dict({"input_ids": tokens, "labels": labels})


def write_summary(summary: Json, losses: Losses, folder: Path) -> None:
    """Write train.json and loss.csv, which contain no times."""
    write_json(folder / TRAIN, summary, sort_keys=True)
    with (folder / LOSS).open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("step", "loss"))
        writer.writerows((step, f"{loss:.6g}") for step, loss in losses)


def summary_line(name: str, summary: Json) -> str:
    """Return the line that a stage prints: pairs, how many were too long, and losses."""
    counts = [f"{count:,} {kind}" for kind, count in summary["pairs"].items()]
    pairs = ", ".join(counts)
    for key, label in (("left_out", "left out"), ("cut", "cut off")):
        if summary[key]:
            pairs += f", {summary[key]:,} of them {label}"
    losses = f"loss {summary['first_loss']:.2f} to {summary['final_loss']:.2f}"
    held_out = summary["held_out"]
    if held_out["pairs"]:
        losses += f"  on unread pairs {held_out['before']:.2f} to {held_out['after']:.2f}"
    return f"{name:<18} {pairs}  {summary['steps']:,} steps  {losses}"
