"""Chunks of texts for an encoder, and the probabilities of their scores."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from safelm.scoring.base import Integers, Probabilities
from specs.spec import SCORE_LEVELS

# Tokens of one forward pass, padding included.
BATCH_TOKENS = 8192
GPU_BATCH_TOKENS = 131_072
Chunk = list[int]  # tokens


def chunk_texts(
    tokenizer: Any, texts: Sequence[str], sequence_length: int
) -> tuple[list[Chunk], Integers]:
    """Return chunks of at most `sequence_length` tokens, and the index of each one's text.

    Every chunk has the special tokens that the encoder expects.
    """
    encoded = tokenizer(
        list(texts),
        truncation=True,
        max_length=sequence_length,
        return_overflowing_tokens=True,
        return_attention_mask=False,
    )
    owners = np.array(encoded["overflow_to_sample_mapping"], dtype=np.int64)
    return encoded["input_ids"], owners


def chunk_probabilities(model: Any, tokenizer: Any, chunks: Sequence[Chunk]) -> Probabilities:
    """Return the probabilities of every chunk's scores."""
    import torch

    limit = BATCH_TOKENS if model.device.type == "cpu" else GPU_BATCH_TOKENS
    probabilities = np.zeros((len(chunks), SCORE_LEVELS))
    for indices in _batches(chunks, limit):
        batch = {"input_ids": [chunks[index] for index in indices]}
        padded = tokenizer.pad(batch, return_tensors="pt")
        with torch.inference_mode(), half_precision(model.device.type):
            logits = model(**padded.to(model.device)).logits
        # In float32, because bfloat16 keeps two or three digits of a probability.
        shares = torch.softmax(logits.float(), dim=-1)
        probabilities[indices] = shares.cpu().numpy().astype(np.float64)
    return probabilities


def half_precision(device: str) -> AbstractContextManager[Any]:
    """Compute in bfloat16 on a GPU that has it."""
    import torch

    if device == "cuda" and torch.cuda.is_bf16_supported():
        return torch.autocast("cuda", dtype=torch.bfloat16)
    return nullcontext()


def _batches(chunks: Sequence[Chunk], limit: int) -> Iterator[list[int]]:
    """Yield the indices of chunks of similar length, as many as `limit` tokens allow."""
    batch: list[int] = []
    # From short to long: the last chunk sets the width that all others are padded to.
    for index in sorted(range(len(chunks)), key=lambda index: len(chunks[index])):
        if batch and (len(batch) + 1) * len(chunks[index]) > limit:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
