"""Texts that a search holds for a batch of prompts, and the text it returns for each."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor


def row_index(tensor: Tensor) -> Tensor:
    """Number the rows of a tensor, (rows, 1), to index another tensor row by row."""
    return torch.arange(len(tensor), device=tensor.device)[:, None]


def column_index(tensor: Tensor) -> Tensor:
    """Number the columns in every row of a tensor, (rows, columns): the order as it is."""
    return torch.arange(tensor.shape[1], device=tensor.device).expand_as(tensor)


@dataclass
class Beams:
    """Continuations of each prompt: the sets B and C of Algorithm 2, with a row for each prompt.

    The beams of B are ordered by likelihood.
    """

    # (rows, beams, steps); steps at or beyond `length` hold nothing.
    tokens: Tensor
    tags: Tensor  # p(tag) after each token
    # (rows, beams)
    length: Tensor
    log_probability: Tensor  # -inf for a beam that was dropped
    evidence: Tensor  # the p(tag) that the rules compare
    finished: Tensor  # ended by itself, not cut off

    @property
    def is_alive(self) -> Tensor:
        """The beams that go on, neither ended nor dropped."""
        return ~self.finished & (self.log_probability > -torch.inf)

    def take(self, index: Tensor) -> "Beams":
        """Return the beams (rows, index) in that order."""
        rows = row_index(index)
        return Beams(*(tensor[rows, index] for tensor in self.tensors()))

    def select(self, rows: Tensor) -> "Beams":
        """Return the beams of some prompts."""
        return Beams(*(tensor[rows] for tensor in self.tensors()))

    def tensors(self) -> list[Tensor]:
        """List the fields in their order."""
        return [getattr(self, field.name) for field in fields(self)]


@dataclass(frozen=True)
class Decoded:
    """The text that a decoder returns for one prompt.

    `tokens` holds neither the token that ended the text nor the tag; it is empty if `branch`
    refused. `log_probability` counts everything chosen, the ending token or the tag included.
    `tag_probabilities` has p(tag) after each token; it is empty for a model without the tag.

    Only `branch` sets the last three: the value of the text, the score of the prompt, which is
    refused above a bound, and the tokens of each text that it wrote, the greedy one first.
    """

    tokens: list[int]
    finished: bool  # ended by itself, before the bound on new tokens
    short_circuited: bool  # stopped at the tag, or refused
    log_probability: float
    tag_probabilities: list[float]
    value: float = 0.0
    score: float = 0.0
    written: tuple[int, ...] = ()
