"""The tuned model: copies of its weights, its loss on pairs, and its files."""

import shutil
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from safelm.builder.digest import MANIFEST
from safelm.models import TRAIN
from safelm.posttraining.rows import IGNORED, Row

LOSS = "loss.csv"
# A tuned model writes the files with these prefixes itself, and copies all others from its base.
OWN_FILES = ("config.json", "generation_config.json", "model", TRAIN, LOSS, "held_out")


def copy_model(
    model: PreTrainedModel,
    dtype: torch.dtype,
    config: Any,
    generation_config: Any,
) -> PreTrainedModel:
    """Copy a model's weights into a new model of the given type and configuration."""
    # The copy draws initial weights, which must not change the draws of the trainer.
    with torch.random.fork_rng():
        copy = type(model)(deepcopy(config))
    copy.load_state_dict(model.state_dict())
    copy.generation_config = deepcopy(generation_config)
    return copy.to(dtype=dtype)  # type: ignore[call-arg]  # transformers wraps torch's method


def mean_loss(model: PreTrainedModel, rows: Sequence[Row]) -> float | None:
    """Return the mean loss of the answers' tokens, or None without rows."""
    total = 0.0
    count = 0
    # Dropout must be off, but the trainer may be in the middle of its steps.
    was_training = model.training
    model.eval()
    for row in rows:
        tokens = torch.tensor([row.tokens], device=model.device)
        # The logits at a token predict the next one.
        labels = torch.tensor(row.labels[1:], device=model.device)
        with torch.no_grad():
            logits = model(input_ids=tokens).logits[0, :-1].float()
        loss = torch.nn.functional.cross_entropy(
            logits,
            labels,
            ignore_index=IGNORED,
            # Summed, so that each token counts the same, however long its row.
            reduction="sum",
        )
        total += float(loss)
        count += int((labels != IGNORED).sum())
    model.train(was_training)
    return round(total / count, 6) if count else None


def save_model(model: PreTrainedModel, ends: set[int], base: Path, folder: Path) -> None:
    """Write a model with the tokenizer's files of its base."""
    # vLLM and transformers end an answer at any of these tokens.
    model.generation_config.eos_token_id = sorted(ends)
    model.save_pretrained(folder)
    for path in sorted(base.iterdir()):
        is_own = path.name.startswith(OWN_FILES) or path.name == MANIFEST
        if path.is_file() and not is_own:
            shutil.copyfile(path, folder / path.name)
