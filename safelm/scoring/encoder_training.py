"""LP-FT with the Trainer of transformers: an encoder's head first, then all of it.

Kumar et al. 2022.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

from safelm.models.trainer import COMMON, train
from specs.scorer import Step
from specs.spec import SCORE_LEVELS

Losses = list[tuple[str, int, float]]  # (what was trained, update, loss)


def weighted_loss(weights: torch.Tensor) -> Any:
    """Return a cross-entropy weighted by score (paper §1.3: λ above 0, 1 at 0)."""

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        losses = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, reduction="none")
        weighted = losses * weights.to(labels.device)[labels]
        return weighted.sum() / (num_items_in_batch or len(labels))

    return loss


def training_arguments(folder: str, step: Step, warmup: float, seed: int) -> TrainingArguments:
    """Return the settings of AdamW with a linear decay to 0.

    The paper gives neither schedule nor warm-up.
    """
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=step.epochs,
        per_device_train_batch_size=step.batch,
        learning_rate=step.learning_rate,
        weight_decay=step.weight_decay,
        warmup_steps=warmup,
        seed=seed,
        **COMMON,
    )


def finetune(
    model: Any,
    tokenizer: Any,
    texts: Sequence[str],
    scores: Sequence[int],
    *,
    steps: Sequence[Step],
    warmup: float,
    sequence_length: int,
    unsafe_weight: float,
    seed: int,
) -> Losses:
    """Train the model in steps, and return the loss of every update.

    A label is of a whole document; a longer document is trained on by its first chunk.
    """
    encoded = tokenizer(list(texts), truncation=True, max_length=sequence_length)
    data = Dataset.from_dict({"input_ids": encoded["input_ids"], "labels": list(scores)})
    weights = torch.tensor([1.0] + [unsafe_weight] * (SCORE_LEVELS - 1))
    body = f"{model.base_model_prefix}."

    def trainer(folder: str, step: Step) -> Trainer:
        return Trainer(
            model,
            training_arguments(folder, step, warmup, seed),
            train_dataset=data,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_loss_func=weighted_loss(weights),
        )

    losses: Losses = []
    for step in steps:
        set_seed(seed)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = step.trains == "all" or not name.startswith(body)
        updates = train(f"fit {step.trains}", partial(trainer, step=step))
        losses += [(step.trains, *update) for update in updates]
    return losses
