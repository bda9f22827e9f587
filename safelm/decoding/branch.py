"""Branches: whole texts that begin differently, of which the tag has a say in which is given.

SafeBeam decides at every token, when the model does not know yet whether the page is harmful
(p(tag) tells it late), and among beams that begin alike, so that a refusal, which is another
beginning, is soon out of reach. Here each text is written to its end, greedily, from another likely
first token (as Wang and Zhou 2024, arXiv 2402.10200, branch to find chains of thought), and only
then is one chosen, by what the model thinks of the whole of it."""

from typing import Any

import torch
from torch import Tensor

from safelm.decoding import rules
from safelm.decoding.beams import Texts
from safelm.decoding.search import Search


class Branches(Search):
    """A batch of prompts, each continued by texts that do not compete until they are written.

    The text that is given has the greatest log p(first token) + mean log p(token) - weight x mean
    p(tag), where the mean of p(tag) is over the ends of its words. The first term is how likely the
    model begins so, the second does not favour short texts as their whole log-probability would.
    With `short_circuit` a prompt is refused, and nothing given, if one of its texts has a mean
    p(tag) above `threshold`: what could be answered so harmfully is a harmful request. (On the
    seeds 2 and 3 this bound refused more of the harmful and no more of the harmless requests than
    one on the text that is given.)"""

    def __init__(self, *values: Any) -> None:
        super().__init__(*values)
        self.opening = self.texts.log_probability  # of each text's first token, once there is one

    def width(self, step: int) -> int:
        """The likeliest first tokens begin the texts; each goes on with its likeliest."""
        return self.decoder.beams if step == 0 else 1

    def short_circuit(self, following: Tensor, gain: Tensor) -> None:
        """Nothing: a text is judged once it is written."""

    def propose(self, step: int) -> tuple[Texts, Tensor]:
        """One more token of every text."""
        candidates, parents = super().propose(step)
        if step == 0:
            self.opening = candidates.log_probability
        return candidates, parents

    def choose(self, candidates: Texts, evidence: Tensor) -> Tensor:
        """All of them, in their order."""
        rows, count = candidates.log_probability.shape
        return torch.arange(count, device=evidence.device).expand(rows, -1)

    def settled(self) -> Tensor:
        """The prompts whose texts are all written."""
        return (self.texts.finished | (self.texts.log_probability == -torch.inf)).all(dim=1)

    def record(self, rows: Tensor, short_circuited: Tensor | None = None) -> None:
        """Write down the best text of these prompts, once; without its tokens, if it is refused."""
        if not rows.any():
            return
        tags = self.tag_means()
        values = self.values(tags)
        order = rules.best(values, values.shape[1])
        as_they_are = torch.arange(
            order.shape[1], device=order.device
        )  # those not yet written; the tree has them so
        self.texts = self.texts.take(torch.where(rows[:, None], order, as_they_are))
        if self.decoder.short_circuit:
            refused = rows & (
                tags.masked_fill(values == -torch.inf, 0).amax(dim=1) > self.decoder.threshold
            )
            self.texts.length[refused, 0], self.texts.finished[refused, 0] = 0, False
            super().record(refused, self.texts.log_probability[:, 0])
        super().record(rows)

    def leading(self) -> Tensor:
        """The place of the text that would be given if all ended here."""
        return self.values(self.tag_means()).argmax(dim=1)

    def values(self, tags: Tensor) -> Tensor:
        """What each text is worth, given its mean p(tag)."""
        tokens = self.texts.length + self.texts.finished
        return self.opening + self.texts.log_probability / tokens - self.decoder.weight * tags

    def tag_means(self) -> Tensor:
        """The mean p(tag) at the ends of the words of each text, 0 of an empty one."""
        if self.starts is None:
            return torch.zeros_like(self.texts.log_probability)
        ends = rules.word_ends(self.texts.tokens, self.texts.length, self.starts)
        return (self.texts.tags * ends).sum(dim=-1) / ends.sum(dim=-1).clamp(min=1)

    def select(self, rows: Tensor) -> None:
        """Go on with these prompts only."""
        super().select(rows)
        self.opening = self.opening[rows]
