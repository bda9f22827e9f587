"""Tuning with TRL's own SFTTrainer, from a Hugging Face folder to a Hugging Face folder.

TRL is given tokens and labels: its preparation would go over the rows six times through files of a
cache. Nothing of the trainer's own (training_args.bin, a model card, optimizer state) is published,
for it holds clocks and paths."""

import csv
import json
import shutil
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any, Literal

import torch
from datasets import Dataset
from transformers import PreTrainedModel, TrainerCallback
from trl import SFTConfig, SFTTrainer

from safelm.builder.digest import MANIFEST
from safelm.models.chat import answer_tokens, end_ids, load
from safelm.models.metadata import CHECKPOINTS, TRAIN, knows_tag
from safelm.models.trainer import COMMON, Losses, train
from safelm.posttraining.pairs import Pair
from safelm.posttraining.rows import IGNORED, Row, in_order, rows_of

LOSS = "loss.csv"
Schedule = Literal["linear", "constant"]
OF_THE_MODEL = (
    "config.json",
    "generation_config.json",
    "model",
    TRAIN,
    LOSS,
    "held_out",
)  # files that a tuned model has of its own


class Keep(TrainerCallback):
    """Calls `keep` after some of the updates."""

    def __init__(self, updates: Collection[int], keep: Callable[[int], None]) -> None:
        self.updates, self.keep = updates, keep

    def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Called after each update."""
        if state.global_step in self.updates:
            self.keep(state.global_step)


def settings(
    folder: str, *, batch: int, learning_rate: float, seed: int, schedule: Schedule
) -> SFTConfig:
    """The recipe: AdamW, a warm-up over 3 % of the steps and a linear fall to 0 (the paper gives
    none, paper.md §7).

    With the schedule constant there is neither warm-up nor fall.
    """
    return SFTConfig(
        output_dir=folder,
        per_device_train_batch_size=batch,
        num_train_epochs=1,  # the rows of all epochs are there, in order
        train_sampling_strategy="sequential",
        learning_rate=learning_rate,
        warmup_steps=0.03,
        weight_decay=0.0,
        max_grad_norm=1.0,
        seed=seed,
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
) -> dict[str, Any]:
    """Tune the model of `base` on the pairs and write it to `folder`; what its train.json says.

    The loss on the answers of `unread` pairs, which training does not see, is measured before and
    after. After so many pairs as one of `checkpoints` says, whole batches, the model is kept in a folder
    of its own, and measured too."""
    model, tokenizer = load(base)
    rows = rows_of(tokenizer, pairs, sequence_length)
    if not rows:
        raise ValueError(
            f"{name}: none of {len(pairs)} pairs fits into {sequence_length} tokens; name another source or a larger sequence_length"
        )
    if max(checkpoints, default=0) >= (most := len(rows) * epochs):
        fit = [pairs_read for pairs_read in checkpoints if pairs_read < most]
        raise ValueError(
            f"{name}: expected checkpoints below the {most:,} pairs that are read (got {[*checkpoints]}); write checkpoints: {fit}"
        )
    ordered = in_order(rows, batch=batch_size, epochs=epochs, seed=seed)
    data = Dataset.from_dict(
        {"input_ids": [row.tokens for row in ordered], "labels": [row.labels for row in ordered]}
    )
    dtype, configs = model.dtype, deepcopy((model.config, model.generation_config))
    held, ends, knows, along = (
        rows_of(tokenizer, unread, sequence_length),
        end_ids(tokenizer),
        knows_tag(base),
        {},
    )
    end = answer_tokens(tokenizer, [""])[0][-1:]  # of every answer, but of those that lost it

    def keep(update: int) -> None:
        place = folder / CHECKPOINTS / str(update * batch_size)
        publish(copied(model, dtype, configs), ends, base, place)
        along[update * batch_size] = loss_on(model, held)
        (place / TRAIN).write_text(json.dumps({"knows_tag": knows}) + "\n", encoding="utf-8")

    def trainer(scratch: str) -> SFTTrainer:
        args = settings(
            scratch, batch=batch_size, learning_rate=learning_rate, seed=seed, schedule=schedule
        )
        kept = Keep([pairs_read // batch_size for pairs_read in checkpoints], keep)
        return SFTTrainer(
            model, args, train_dataset=data, processing_class=tokenizer, callbacks=[kept]
        )

    before = loss_on(model.float(), held)
    losses = train(name, trainer)
    summary = {
        "held_out": {
            "pairs": len(held),
            "before": before,
            "after": loss_on(model, held),
            "doses": along,
        },
        "knows_tag": knows,
        "pairs": dict(sorted(Counter(pair.kind for pair in pairs).items())),
        "left_out": len(pairs) - len(rows),
        "cut": sum(row.tokens[-1:] != end for row in rows),
        "steps": len(losses),
        "first_loss": round(losses[0][1], 6),
        "final_loss": round(losses[-1][1], 6),
        "tokens": sum(len(row.tokens) for row in ordered),
        "answer_tokens": sum(label != IGNORED for row in ordered for label in row.labels),
    }
    publish(copied(model, dtype, configs), ends, base, folder)
    write_summary(summary, losses, folder)
    return summary


def copied(model: PreTrainedModel, dtype: torch.dtype, configs: tuple[Any, Any]) -> PreTrainedModel:
    """The model as it is, in its own type and with its own configuration: the trainer changes both
    while it trains.
    """
    with torch.random.fork_rng():
        copy = type(model)(deepcopy(configs[0]))
    copy.load_state_dict(model.state_dict())
    copy.generation_config = deepcopy(configs[1])
    return copy.to(dtype=dtype)  # type: ignore[call-arg]  # transformers wraps torch's method


def loss_on(model: PreTrainedModel, rows: Sequence[Row]) -> float | None:
    """The mean loss of the answers' tokens, a row at a time; None of no rows."""
    total, count, was_training = 0.0, 0, model.training
    model.eval()
    for row in rows:
        tokens = torch.tensor([row.tokens], device=model.device)
        labels = torch.tensor(row.labels[1:], device=model.device)
        with torch.no_grad():
            logits = model(input_ids=tokens).logits[0, :-1].float()
        total += float(
            torch.nn.functional.cross_entropy(logits, labels, ignore_index=IGNORED, reduction="sum")
        )
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
    (folder / TRAIN).write_text(
        json.dumps(summary, indent=1, sort_keys=True) + "\n", encoding="utf-8"
    )
    with (folder / LOSS).open("w", encoding="utf-8", newline="") as file:
        lines = [(step, f"{loss:.6g}") for step, loss in losses]
        csv.writer(file, lineterminator="\n").writerows([("step", "loss"), *lines])


def sentence(name: str, summary: dict[str, Any]) -> str:
    """What a stage prints: the pairs, how many of them do not fit into `sequence`, and the loss."""
    pairs = ", ".join(f"{count:,} {kind}" for kind, count in summary["pairs"].items())
    misfits = {"left out": summary["left_out"], "cut off": summary["cut"]}
    too_long = "".join(f", {count:,} of them {fate}" for fate, count in misfits.items() if count)
    first, last, held = summary["first_loss"], summary["final_loss"], summary["held_out"]
    unread = (
        f"  on unread pairs {held['before']:.2f} to {held['after']:.2f}" if held["pairs"] else ""
    )
    return f"{name:<18} {pairs}{too_long}  {summary['steps']:,} steps  loss {first:.2f} to {last:.2f}{unread}"
