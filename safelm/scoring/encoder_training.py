"""LP-FT (linear probing, then full finetuning) of an encoder with the Trainer of transformers.

The head is trained first, then all of the encoder (Kumar et al. 2022, as in paper §1.3).
"""

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset
from transformers import (
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
    set_seed,
)

from safelm.models.trainer import COMMON, train
from safelm.scoring.base import Integers
from safelm.scoring.encoder_chunks import Chunk, chunk_probabilities, chunk_texts
from safelm.scoring.encoder_model import Losses
from specs.scorer import Step
from specs.spec import SCORE_LEVELS

IGNORED = -100  # a label that PyTorch and transformers leave out


def weighted_loss(weights: torch.Tensor) -> Any:
    """Return the cross-entropy with a weight for each score.

    In paper §1.3 the weight is 1 for score 0 and λ for all others.
    """

    def loss(outputs: Any, labels: torch.Tensor, num_items_in_batch: Any = None) -> torch.Tensor:
        # One loss for each example: the weighted mean of PyTorch divides by the weights' sum.
        losses = torch.nn.functional.cross_entropy(outputs.logits.float(), labels, reduction="none")
        # An ignored label has the loss 0, and no weight of its own.
        weighted = losses * weights.to(labels.device)[labels.clamp(min=0)]
        return weighted.sum() / (num_items_in_batch or len(labels))

    return loss


def training_arguments(folder: str, step: Step, warmup: float, seed: int) -> TrainingArguments:
    """Return the settings of AdamW with a linear decay to 0, in bfloat16 on a GPU that has it."""
    # Ours: paper §1.3 gives rates, batches and epochs, but neither schedule nor warm-up.
    return TrainingArguments(
        output_dir=folder,
        num_train_epochs=step.epochs,
        per_device_train_batch_size=step.batch,
        learning_rate=step.learning_rate,
        weight_decay=step.weight_decay,
        warmup_steps=warmup,
        seed=seed,
        bf16=torch.cuda.is_available() and torch.cuda.is_bf16_supported(),
        **COMMON,
    )


class LabelledChunks(Dataset[dict[str, Any]]):
    """All chunks of the labelled texts, each with the label of its text.

    A text has the highest score of its chunks, so the label holds for every chunk of a harmless
    text, but perhaps for a single one of any other. `choose` leaves that one to be learnt.
    """

    def __init__(self, chunks: Sequence[Chunk], owners: Integers, scores: Sequence[int]) -> None:
        self.chunks, self.owners = chunks, owners
        self.scores = np.array(scores)[owners]
        self.labels = self.scores.copy()

    def __len__(self) -> int:
        return len(self.chunks)

    def __getitem__(self, index: int) -> dict[str, Any]:
        return {"input_ids": self.chunks[index], "labels": int(self.labels[index])}

    def use_all(self) -> None:
        """Learn every chunk."""
        self.labels = self.scores.copy()

    def choose(self, model: Any, tokenizer: Any) -> None:
        """Learn, of an unsafe text, the chunk alone that the model finds worst."""
        # Texts of one chunk each leave nothing to choose.
        if self.owners.tolist() == sorted(set(self.owners.tolist())):
            return
        was_training = model.training
        probabilities = chunk_probabilities(model.eval(), tokenizer, self.chunks)
        model.train(was_training)
        expected = probabilities @ np.arange(SCORE_LEVELS)
        # The last chunk of each text in this order has its highest score.
        order = np.argsort(expected, kind="stable")
        worst = dict(zip(self.owners[order].tolist(), order.tolist(), strict=True))
        is_worst = np.isin(np.arange(len(self.chunks)), list(worst.values()))
        self.labels = np.where((self.scores == 0) | is_worst, self.scores, IGNORED)


class ChooseChunks(TrainerCallback):
    """Learn all chunks in the first half of the epochs, and chosen ones in the second.

    Chosen from the first, the chunk could be one that unsafe and harmless texts share, and training
    would stay with it.
    """

    def __init__(self, data: LabelledChunks, tokenizer: Any) -> None:
        self.data, self.tokenizer = data, tokenizer

    def on_epoch_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
        """Set the labels of the epoch."""
        if state.epoch < args.num_train_epochs / 2:
            self.data.use_all()
        else:
            self.data.choose(rest["model"], self.tokenizer)


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
    """Train the model in steps on all chunks, and return the loss of every update."""
    data = LabelledChunks(*chunk_texts(tokenizer, texts, sequence_length), scores)
    weights = torch.tensor([1.0] + [unsafe_weight] * (SCORE_LEVELS - 1))
    body = f"{model.base_model_prefix}."

    def trainer(folder: str, step: Step) -> Trainer:
        return Trainer(
            model,
            training_arguments(folder, step, warmup, seed),
            train_dataset=data,
            data_collator=DataCollatorWithPadding(tokenizer),
            compute_loss_func=weighted_loss(weights),
            callbacks=[ChooseChunks(data, tokenizer)],
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
