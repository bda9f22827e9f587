"""The texts that a search holds: what Algorithm 2 writes (y, log p, p_tau), for a batch of prompts
at once.
"""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Texts:
    """B and C of Algorithm 2 for a batch of prompts: (rows, texts) continuations, likeliest first
    in B.

    evidence is the p(tag) that the rules compare. Columns of tokens and tags at or beyond `length`
    hold nothing."""

    tokens: Tensor
    tags: Tensor
    length: Tensor
    log_probability: Tensor
    evidence: Tensor
    finished: Tensor

    def take(self, index: Tensor) -> "Texts":
        """The texts at (rows, index), in that order."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        return Texts(*(getattr(self, field.name)[rows, index] for field in fields(self)))

    def select(self, rows: Tensor) -> "Texts":
        """The texts of these prompts only."""
        return Texts(*(getattr(self, field.name)[rows] for field in fields(self)))
