"""Encoder scorer: a Hugging Face encoder with a 6-way head, applied to chunks (paper §1.3).

The score of a document is the highest of its chunks.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safelm.scoring.base import Grades, grade_chunks
from safelm.scoring.encoder_chunks import chunk_probabilities, chunk_texts
from safelm.scoring.encoder_model import load_encoder, save_encoder
from safelm.scoring.labels import FitScorer, Label
from safelm.scoring.operating_point import GradeFitted
from specs.scorer import Step

LIBRARIES = ("torch", "transformers", "tokenizers", "safetensors")


class EncoderScorer:
    """A finetuned encoder.

    The last bits of its probabilities depend on the processor and on the other texts of a batch, as
    with every neural network. A score can change by them only where two are equally probable.
    """

    def __init__(self, model: Any, tokenizer: Any, sequence_length: int) -> None:
        self.model, self.tokenizer = model.eval(), tokenizer
        self.sequence_length = sequence_length

    @classmethod
    def read(cls, folder: Path, sequence_length: int) -> "EncoderScorer":
        """Read a folder that `save_encoder` wrote, or any encoder with a 6-way head.

        Raises EncoderError where transformers cannot load it.
        """
        model, tokenizer = load_encoder(folder, None, sequence_length)
        return cls(model, tokenizer, sequence_length)

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return one grade for each text: the highest score of its chunks."""
        if not texts:
            return []
        chunks, owners = chunk_texts(self.tokenizer, texts, self.sequence_length)
        by_chunk = chunk_probabilities(self.model, self.tokenizer, chunks)
        return grade_chunks(by_chunk, owners, len(texts), "embedding")


class FitEncoder(FitScorer):
    """Finetune an encoder on the labels by LP-FT: its head first, then all of it."""

    libraries = LIBRARIES
    encoder: Path | str
    revision: str | None
    sequence_length: int
    unsafe_weight: float
    warmup: float
    steps: tuple[Step, ...]

    def fit(self, train: Sequence[Label], folder: Path) -> tuple[EncoderScorer, list[str]]:
        """Return the scorer and its files, which plain transformers can load as well."""
        from transformers import set_seed

        from safelm.scoring.encoder_training import finetune

        # Before loading: a new head starts with random weights.
        set_seed(self.seed)
        length = self.sequence_length
        model, tokenizer = load_encoder(self.encoder, self.revision, length, new_head=True)
        losses = finetune(
            model,
            tokenizer,
            [label.text for label in train],
            [label.score for label in train],
            steps=self.steps,
            warmup=self.warmup,
            sequence_length=length,
            unsafe_weight=self.unsafe_weight,
            seed=self.seed,
        )
        save_encoder(model, tokenizer, losses, folder)
        names = sorted(path.name for path in folder.iterdir())
        return EncoderScorer(model, tokenizer, length), names


class GradeByEncoder(GradeFitted):
    """Grade every document by a finetuned encoder, as the maximum over its chunks (paper §1.3)."""

    libraries = LIBRARIES
    sequence_length: int

    @property
    def max_workers(self) -> int | None:
        """One worker a GPU; on a CPU any number."""
        import torch

        return torch.cuda.device_count() or None

    def read(self, folder: Path) -> EncoderScorer:
        """Read the encoder that `fit` saved."""
        return EncoderScorer.read(folder, self.sequence_length)
