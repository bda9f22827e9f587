"""Decoder `branch`: write several whole texts, then choose one that is likely and little tagged.

SafeBeam decides at every token. That is too early, because p(tag) rises late in a harmful text. And
its beams soon begin alike, so that a refusal, which begins differently, is out of reach. Here each
branch starts with another likely first token and is written to its end, greedily, as Wang and Zhou
(2024, arXiv 2402.10200) branch to find chains of thought. Only then is one branch chosen.
"""

from typing import Any

import torch
from torch import Tensor

from safelm.decoding import rules
from safelm.decoding.beams import Beams, column_index
from safelm.decoding.search import Search
from specs.decoder import Branch


class BranchSearch(Search):
    """A batch of prompts, each continued by branches that compete only when they are written.

    The best branch has the greatest value of

        log p(first token) + mean log p(token) - tag_weight x mean p(tag at the end of a word)

    The mean does not favour short texts, as the log-probability of the whole text would. It hides
    how likely the model begins so, which the first term brings back.

    With `max_tag_probability`, a prompt is refused if any of its branches has a higher mean p(tag):
    a request that can be answered so harmfully is a harmful request. On seeds 2 and 3 this bound
    refused more harmful requests than a bound on the best branch, and no more harmless ones.
    """

    decoder: Branch

    def __init__(self, *values: Any, **settings: Any) -> None:
        super().__init__(*values, **settings)
        # The log-probability of the first token of each branch.
        self.opening = self.beams.log_probability

    def width(self, step: int) -> int:
        """Count the candidates: first one for each branch, then one, so branches are greedy."""
        return self.decoder.branches if step == 0 else 1

    def propose(self, step: int) -> tuple[Beams, Tensor]:
        """Add one token to every branch."""
        candidates, parents = super().propose(step)
        if step == 0:
            self.opening = candidates.log_probability
        return candidates, parents

    def choose(self, candidates: Beams, evidence: Tensor) -> Tensor:
        """Keep all candidates in their order."""
        return column_index(candidates.log_probability)

    def settled(self) -> Tensor:
        """Mark the prompts whose branches are all written."""
        return ~self.beams.is_alive.any(dim=1)

    def record(self, rows: Tensor, stopped_at: Tensor | None = None) -> None:
        """Record the best branch of these prompts, once; a refused prompt gets no tokens."""
        if not rows.any():
            return
        tags = self.tag_means()
        values = self.values(tags)
        best_first = rules.likeliest(values, values.shape[1])
        # Prompts that go on keep the order of their branches, which the tree shares.
        unchanged = column_index(best_first)
        order = torch.where(rows[:, None], best_first, unchanged)
        self.beams = self.beams.take(order)
        bound = self.decoder.max_tag_probability
        if bound is not None:
            is_empty = values == -torch.inf
            highest = tags.masked_fill(is_empty, 0).amax(dim=1)
            refused = rows & (highest > bound)
            # A refusal has no tokens, and is short-circuited, not finished.
            self.beams.length[refused, 0] = 0
            self.beams.finished[refused, 0] = False
            super().record(refused, self.beams.log_probability[:, 0])
        # A refused prompt is recorded already, so this leaves it as it is.
        super().record(rows)

    def leading(self) -> Tensor:
        """Return the index of the branch that would be best if all ended here."""
        tags = self.tag_means()
        return self.values(tags).argmax(dim=1)

    def values(self, tags: Tensor) -> Tensor:
        """Compute the value of each branch from its mean p(tag)."""
        # The token that ended a text has a probability, but is not in its length.
        tokens = self.beams.length + self.beams.finished
        mean_log_probability = self.beams.log_probability / tokens
        penalty = self.decoder.tag_weight * tags
        return self.opening + mean_log_probability - penalty

    def tag_means(self) -> Tensor:
        """Average p(tag) over the word ends of each branch; 0 for an empty branch."""
        if self.starts is None:
            return torch.zeros_like(self.opening)
        # Inside a word p(tag) is next to 0, so those tokens would only dilute the mean.
        ends = rules.word_ends(self.beams.tokens, self.beams.length, self.starts)
        total = (self.beams.tags * ends).sum(dim=-1)
        count = ends.sum(dim=-1).clamp(min=1)
        return total / count

    def select(self, rows: Tensor) -> None:
        """Go on with these prompts only."""
        super().select(rows)
        self.opening = self.opening[rows]
