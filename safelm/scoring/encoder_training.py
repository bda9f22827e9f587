"""LP-FT with the trainer of transformers: the head of an encoder first, then all of it (Kumar et
al. 2022).
"""

from collections.abc import Sequence
from typing import Any

import torch
from datasets import Dataset
from transformers import DataCollatorWithPadding, Trainer, TrainingArguments, set_seed

from safelm.models.trainer import COMMON, train
from specs.scorer import Step
from specs.spec import SCORE_LEVELS

Losses = list[tuple[str, int, float]]  # (what was trained, update, loss)


def weighted_loss(weights: torch.Tensor) -> Any:
    """Cross-entropy in which a document counts by its score's weight: λ above 0, 1 at 0 (paper
    §1.3).
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        losses = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, reduction="none")
        return (losses * weights.to(labels.device)[labels]).sum() / (
            num_items_in_batch or len(labels)
        )

    return loss


def settings(folder: str, step: Step, warmup: float, seed: int) -> TrainingArguments:
    """AdamW with a linear fall to 0; the paper gives neither schedule nor warm-up."""
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
    sequence: int,
    unsafe_weight: float,
    seed: int,
) -> Losses:
    """Train in steps; the loss of every update.

    A label is of a whole document: of a longer one the first chunk is trained on.
    """
    coded = tokenizer(list(texts), truncation=True, max_length=sequence)
    data = Dataset.from_dict({"input_ids": coded["input_ids"], "labels": list(scores)})
    weights = torch.tensor([1.0] + [unsafe_weight] * (SCORE_LEVELS - 1))
    losses: Losses = []
    for step in steps:
        set_seed(seed)
        for name, parameter in model.named_parameters():
            parameter.requires_grad = step.trains == "all" or not name.startswith(
                f"{model.base_model_prefix}."
            )

        def trainer(folder: str, step: Step = step) -> Trainer:
            return Trainer(
                model,
                settings(folder, step, warmup, seed),
                train_dataset=data,
                data_collator=DataCollatorWithPadding(tokenizer),
                compute_loss_func=weighted_loss(weights),
            )

        losses += [(step.trains, *loss) for loss in train(f"fit {step.trains}", trainer)]
    return losses
