"""Branches: whole texts that begin differently, of which the tag has a say in the choice.

SafeBeam decides at every token, when the model does not know yet whether the page is harmful
(p(tag) rises late), and among beams that begin alike, so a refusal, which begins differently, is
soon out of reach. Here each branch is written to its end, greedily, from another likely first token
(as Wang and Zhou 2024, arXiv 2402.10200, branch to find chains of thought). Only then is one
chosen, by what the model thinks of the whole of it.
"""

from typing import Any

import torch
from torch import Tensor

from safelm.decoding import rules
from safelm.decoding.beams import Beams
from safelm.decoding.search import Search
from specs.decoder import Branch


class BranchSearch(Search):
    """A batch of prompts, each continued by branches that do not compete until they are written.

    The branch that is given has the greatest log p(first token) + mean log p(token) - tag_weight x
    mean p(tag), with p(tag) taken at the ends of its words. The first term is how likely the model
    begins so; the second does not favour short texts as their whole log-probability would.

    With `max_tag_probability` a prompt is refused, and nothing given, if any of its branches has a
    higher mean p(tag): what could be answered so harmfully is a harmful request. (On the seeds 2
    and 3 this bound refused more of the harmful and no more of the harmless requests than one on
    the branch that is given.)
    """

    decoder: Branch

    def __init__(self, *values: Any, **settings: Any) -> None:
        super().__init__(*values, **settings)
        # Of each branch's first token, once there is one.
        self.opening = self.beams.log_probability

    def width(self, step: int) -> int:
        """Begin with the likeliest first tokens; each branch goes on with its likeliest."""
        return self.decoder.branches if step == 0 else 1

    def propose(self, step: int) -> tuple[Beams, Tensor]:
        """Add one token to every branch."""
        candidates, parents = super().propose(step)
        if step == 0:
            self.opening = candidates.log_probability
        return candidates, parents

    def choose(self, candidates: Beams, evidence: Tensor) -> Tensor:
        """Keep all of them, in their order."""
        rows, count = candidates.log_probability.shape
        return torch.arange(count, device=evidence.device).expand(rows, -1)

    def settled(self) -> Tensor:
        """Mark the prompts whose branches are all written."""
        return ~self.beams.is_alive.any(dim=1)

    def record(self, rows: Tensor, stopped_at: Tensor | None = None) -> None:
        """Write down the best branch of these prompts, once; without its tokens, if refused."""
        if not rows.any():
            return
        tags = self.tag_means()
        values = self.values(tags)
        best_first = rules.likeliest(values, values.shape[1])
        # Branches not yet written keep their order: the tree has them so.
        unchanged = torch.arange(best_first.shape[1], device=best_first.device)
        self.beams = self.beams.take(torch.where(rows[:, None], best_first, unchanged))
        if (bound := self.decoder.max_tag_probability) is not None:
            worst = tags.masked_fill(values == -torch.inf, 0).amax(dim=1)
            refused = rows & (worst > bound)
            self.beams.length[refused, 0] = 0
            self.beams.finished[refused, 0] = False
            super().record(refused, self.beams.log_probability[:, 0])
        super().record(rows)

    def leading(self) -> Tensor:
        """Point at the branch that would be given if all ended here."""
        return self.values(self.tag_means()).argmax(dim=1)

    def values(self, tags: Tensor) -> Tensor:
        """Value each branch, given its mean p(tag); the greatest value is chosen."""
        tokens = self.beams.length + self.beams.finished
        likelihood = self.opening + self.beams.log_probability / tokens
        return likelihood - self.decoder.tag_weight * tags

    def tag_means(self) -> Tensor:
        """Average p(tag) over the ends of each branch's words; 0 for an empty one."""
        if self.starts is None:
            return torch.zeros_like(self.beams.log_probability)
        ends = rules.word_ends(self.beams.tokens, self.beams.length, self.starts)
        return (self.beams.tags * ends).sum(dim=-1) / ends.sum(dim=-1).clamp(min=1)

    def select(self, rows: Tensor) -> None:
        """Go on with these prompts only."""
        super().select(rows)
        self.opening = self.opening[rows]
