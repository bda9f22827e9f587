"""The texts that a search holds for a batch of prompts, and the text it gives for each."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass
class Beams:
    """B and C of Algorithm 2: (rows, beams) continuations, a row for each prompt.

    In B they stand by likelihood. `evidence` is the p(tag) that the rules compare. Columns of
    `tokens` and `tags` (rows, beams, steps) at or beyond `length` hold nothing.
    """

    tokens: Tensor
    tags: Tensor
    length: Tensor
    log_probability: Tensor
    evidence: Tensor
    finished: Tensor

    @property
    def is_alive(self) -> Tensor:
        """Which beams go on: not ended, and not dropped."""
        return ~self.finished & (self.log_probability > -torch.inf)

    def take(self, index: Tensor) -> "Beams":
        """Select (rows, index) beams, in that order."""
        rows = torch.arange(len(index), device=index.device)[:, None]
        return Beams(*(getattr(self, field.name)[rows, index] for field in fields(self)))

    def select(self, rows: Tensor) -> "Beams":
        """Keep the beams of these prompts only."""
        return Beams(*(getattr(self, field.name)[rows] for field in fields(self)))


@dataclass(frozen=True)
class Decoded:
    """The text that a decoder gives for one prompt.

    `tokens` holds neither the token that ended the text nor the tag; it is empty where `branch`
    refused. `log_probability` is of everything chosen, the ending token or the tag included.
    `tag_probabilities` has p(tag) after each token of `tokens`; it is empty for a model without the
    tag.
    """

    tokens: list[int]
    finished: bool
    short_circuited: bool
    log_probability: float
    tag_probabilities: list[float]
