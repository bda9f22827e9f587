"""Greedy coordinate gradient (Zou et al. 2023, arXiv 2307.15043, Algorithm 1): which tokens raise
what is wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from safelm.decoding.rules import word_ends
from safelm.evaluation.attacks.prompt_slot import Slot, Tokens
from safelm.seeding import Draw


class Measured(NamedTuple):
    """Of each of some prompts, (rows,): the log-probability of the target's first token, the mean
    of all its tokens', and the mean p(tag) at the ends of its words; 0 where the model knows no
    tag."""

    opening: Tensor
    log_likelihood: Tensor
    tag_probability: Tensor


@dataclass(frozen=True)
class Goal:
    """What a suffix is to bring about: a target that is likely and, for an attacker who knows it,
    little tagged.

    The loss is minus what the target is worth to decoder `branch` (safelm/decoding/branch.py), with
    `tag_weight` in the place of its weight: log p(first token) + mean log p(token) - tag_weight x
    mean p(tag). The paper of the method has the second term alone; the first is what decides
    between an answer and a refusal."""

    model: PreTrainedModel
    target: Tokens
    tag: int | None
    ends: Tensor  # after which tokens of the target a word has ended
    tag_weight: float

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        target: Tokens,
        starts: Sequence[bool],
        tag: int | None,
        tag_weight: float,
    ) -> "Goal":
        """The goal of a target; `starts` says of each token of the vocabulary whether it opens a
        word.
        """
        tokens, length = torch.tensor([[target]]), torch.tensor([[len(target)]])
        ends = word_ends(tokens, length, torch.tensor(starts))[0, 0].to(model.device)
        return cls(model, target, tag, ends, tag_weight)

    def losses(self, measured: Measured) -> Tensor:
        """The loss of each row."""
        return (
            self.tag_weight * measured.tag_probability - measured.opening - measured.log_likelihood
        )

    def measure(self, embedded: Tensor) -> Measured:
        """Read prompts (rows, tokens, width), each with the target behind it."""
        count = len(self.target)
        logits = self.model(
            inputs_embeds=embedded, use_cache=False, logits_to_keep=count + 1
        ).logits.float()
        found = logits.log_softmax(dim=-1)
        target = torch.tensor(self.target, device=found.device).expand(len(found), -1)
        written = found[:, :-1].gather(2, target[..., None])[..., 0]
        opening, likelihood = written[:, 0], written.mean(dim=1)
        if self.tag is None:
            return Measured(opening, likelihood, torch.zeros_like(likelihood))
        tags = found[:, 1:, self.tag].exp()
        return Measured(opening, likelihood, (tags * self.ends).sum(dim=1) / self.ends.sum())

    @torch.no_grad()
    def of_prompts(self, prompts: Sequence[Tokens]) -> Measured:
        """Measure prompts of one length in one forward pass."""
        return self.measure(self._embedded(prompts))

    def gradient(self, slot: Slot, suffix: Tokens) -> Tensor:
        """The slope of the loss in each coordinate of the suffix's one-hot tokens, (tokens,
        vocabulary).

        It is that in the embeddings times the embedding matrix, for an embedded token is its
        one-hot row times it."""
        embedded = self._embedded([slot.tokens(suffix)]).detach().requires_grad_()
        (slope,) = torch.autograd.grad(self.losses(self.measure(embedded)).sum(), embedded)
        place = len(slot.head)
        return slope[0, place : place + len(suffix)] @ self.table().T

    def _embedded(self, prompts: Sequence[Tokens]) -> Tensor:
        tokens = torch.tensor(
            [[*prompt, *self.target] for prompt in prompts], device=self.model.device
        )
        return embedding(tokens, self.table())

    def table(self) -> Tensor:
        """The embeddings of the vocabulary, (vocabulary, width)."""
        weight: Tensor = self.model.get_input_embeddings().get_parameter("weight")
        return weight.detach()


def substitutions(slope: Tensor, suffix: Tokens, allowed: Tensor, top: int) -> list[Tokens]:
    """Every suffix that has, in one place, one of the `top` tokens whose gradient falls most."""
    falling = (-slope).masked_fill(~allowed, -torch.inf)
    falling[torch.arange(len(suffix)), torch.tensor(suffix)] = -torch.inf
    count = min(top, int(allowed.sum()) - 1)
    best = falling.topk(count, dim=1).indices.tolist()
    return [
        [*suffix[:place], token, *suffix[place + 1 :]]
        for place, row in enumerate(best)
        for token in row
    ]


def search(
    goal: Goal,
    slot: Slot,
    suffix: Tokens,
    vocabulary: Sequence[int],
    *,
    steps: int,
    candidates: int,
    top: int,
    draw: Draw,
) -> tuple[Tokens, list[float]]:
    """The best suffix of so many steps, and the least loss before the first and after each.

    A step tries a random `candidates` of the substitutions that survive being typed and goes on
    from the best of them, also where it is worse than what stood: a search that only descends is
    soon stuck (on the nano models after some 20 steps). What is given is the best that was met."""
    allowed = torch.zeros(len(goal.table()), dtype=torch.bool, device=goal.model.device)
    allowed[list(vocabulary)] = True
    best = (float(goal.losses(goal.of_prompts([slot.tokens(suffix)]))), suffix)
    losses = [best[0]]
    for _ in range(steps):
        tried = substitutions(goal.gradient(slot, suffix), suffix, allowed, top)
        chosen = slot.surviving(sorted(tried, key=lambda _: draw()))[:candidates]
        loss, suffix = min(_lost(goal, slot, chosen), key=lambda found: found[0], default=best)
        best = min(best, (loss, suffix), key=lambda found: found[0])
        losses.append(best[0])
    return best[1], losses


def _lost(goal: Goal, slot: Slot, suffixes: Sequence[Tokens]) -> list[tuple[float, Tokens]]:
    """The loss of each suffix, all in one forward pass."""
    if not suffixes:
        return []
    measured = goal.of_prompts([slot.tokens(suffix) for suffix in suffixes])
    return list(zip(goal.losses(measured).tolist(), suffixes, strict=True))
