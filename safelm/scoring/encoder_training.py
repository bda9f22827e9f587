"""LP-FT (linear probing, then full finetuning) of an encoder with the Trainer of transformers.

The head is trained first, then all of the encoder (Kumar et al. 2022, as in paper §1.3).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

from safelm.models.trainer import COMMON, train
from safelm.scoring.encoder_model import Losses
from specs.scorer import Step
from specs.spec import SCORE_LEVELS


def weighted_loss(weights: torch.Tensor) -> Any:
    """Return the cross-entropy with a weight for each score.

    In paper §1.3 the weight is 1 for score 0 and λ for all others.
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        # One loss for each example: the weighted mean of PyTorch divides by the weights' sum.
        losses = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, reduction="none")
        weighted = losses * weights.to(labels.device)[labels]
        return weighted.sum() / (num_items_in_batch or len(labels))

    return loss


def training_arguments(folder: str, step: Step, warmup: float, seed: int) -> TrainingArguments:
    """Return the settings of AdamW with a linear decay to 0."""
    # Ours: paper §1.3 gives rates, batches and epochs, but neither schedule nor warm-up.
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
    """Train the model in steps, and return the loss of every update."""
    # A label holds for the whole document, so it is learnt from the first chunk alone.
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

    losses: list[tuple[str, int, float]] = []
    for step in steps:
        set_seed(seed)
        # The head is all that is not in the body.
        for name, parameter in model.named_parameters():
            parameter.requires_grad = step.trains == "all" or not name.startswith(body)
        updates = train(f"fit {step.trains}", partial(trainer, step=step))
        losses += [(step.trains, *update) for update in updates]
    return losses
