"""Greedy coordinate gradient: Algorithm 1 of Zou et al. 2023 (arXiv 2307.15043)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Self

import torch
from torch import Tensor
from torch.nn.functional import embedding
from transformers import PreTrainedModel

from safelm.decoding.rules import word_ends
from safelm.evaluation.attacks.prompt_slot import Slot, Tokens
from safelm.seeding import Draw


class Likelihood(NamedTuple):
    """The likelihood of the target after each of some prompts; all tensors are (rows,).

    Attributes:
        opening: log-probability of the target's first token.
        log_likelihood: mean log-probability of its tokens.
        tag_probability: mean p(tag) at the ends of its words; 0 for a model that knows no tag.
    """

    opening: Tensor
    log_likelihood: Tensor
    tag_probability: Tensor


@dataclass(frozen=True)
class Goal:
    """A target text that the suffix should make likely.

    If the attacker knows about the tag, the suffix should also keep p(tag) low. The loss is minus
    the value of the target in decoder `branch` (safelm/decoding/branch.py):

        log p(first token) + mean log p(token) - tag_weight x mean p(tag)

    Zou et al. have only the second term. The first decides between an answer and a refusal.
    """

    model: PreTrainedModel
    target: Tokens
    tag: int | None
    ends: Tensor  # marks the tokens of the target after which a word has ended
    tag_weight: float

    @classmethod
    def of(
        cls,
        model: PreTrainedModel,
        target: Tokens,
        starts: Sequence[bool],
        tag: int | None,
        tag_weight: float,
    ) -> Self:
        """Make a goal; `starts` is `word_starts(tokenizer)`."""
        tokens = torch.tensor([[target]])
        length = torch.tensor([[len(target)]])
        ends = word_ends(tokens, length, torch.tensor(starts))[0, 0]
        return cls(model, target, tag, ends.to(model.device), tag_weight)

    def losses(self, likelihood: Likelihood) -> Tensor:
        """Compute the loss of each row."""
        tagged = self.tag_weight * likelihood.tag_probability
        return tagged - likelihood.opening - likelihood.log_likelihood

    def measure(self, embedded: Tensor) -> Likelihood:
        """Measure the target after prompts; `embedded` has both, (rows, tokens, width)."""
        # A position predicts the next token, so the one before the target is needed, too.
        positions = len(self.target) + 1
        output = self.model(inputs_embeds=embedded, use_cache=False, logits_to_keep=positions)
        log_probabilities = output.logits.float().log_softmax(dim=-1)
        target = torch.tensor(self.target, device=embedded.device)
        # The probability of each target token, in every row.
        index = target.expand(len(log_probabilities), -1)[..., None]
        before_target = log_probabilities[:, :-1]
        of_target = before_target.gather(2, index)[..., 0]
        opening = of_target[:, 0]
        log_likelihood = of_target.mean(dim=1)
        if self.tag is None:
            return Likelihood(opening, log_likelihood, torch.zeros_like(log_likelihood))
        # One position later: the tag stands after a target token, where that word has ended.
        tags = log_probabilities[:, 1:, self.tag].exp()
        mean_tag = (tags * self.ends).sum(dim=1) / self.ends.sum()
        return Likelihood(opening, log_likelihood, mean_tag)

    @torch.no_grad()
    def of_prompts(self, prompts: Sequence[Tokens]) -> Likelihood:
        """Measure the target after prompts of equal length, in one forward pass."""
        return self.measure(self._embedded(prompts))

    def gradient(self, slot: Slot, suffix: Tokens) -> Tensor:
        """Compute the gradient of the loss by the suffix's one-hot tokens, (tokens, vocabulary).

        An embedded token is its one-hot row times the embedding matrix. So this is the gradient by
        the embeddings, times that matrix.
        """
        embedded = self._embedded([slot.tokens(suffix)])
        # A leaf of its own, because the gradient by the weights is not needed.
        embedded = embedded.detach().requires_grad_()
        loss = self.losses(self.measure(embedded)).sum()
        (slope,) = torch.autograd.grad(loss, embedded)
        start = len(slot.head)
        of_suffix = slope[0, start : start + len(suffix)]
        return of_suffix @ self.embeddings().T

    def _embedded(self, prompts: Sequence[Tokens]) -> Tensor:
        rows = [[*prompt, *self.target] for prompt in prompts]
        tokens = torch.tensor(rows, device=self.model.device)
        return embedding(tokens, self.embeddings())

    def embeddings(self) -> Tensor:
        """Return the embedding matrix, (vocabulary, width)."""
        weight: Tensor = self.model.get_input_embeddings().get_parameter("weight")
        return weight.detach()


def substitutions(slope: Tensor, suffix: Tokens, allowed: Tensor, top_k: int) -> list[Tokens]:
    """List suffixes with one token replaced by one of the `top_k` with the steepest descent."""
    descent = (-slope).masked_fill(~allowed, -torch.inf)
    # A token cannot replace itself.
    descent[torch.arange(len(suffix)), torch.tensor(suffix)] = -torch.inf
    # One fewer than are allowed: a position offers every token but its own.
    count = min(top_k, int(allowed.sum()) - 1)
    replacements = descent.topk(count, dim=1).indices.tolist()
    found = []
    for index, tokens in enumerate(replacements):
        before = suffix[:index]
        after = suffix[index + 1 :]
        found += [[*before, token, *after] for token in tokens]
    return found


def search(
    goal: Goal,
    slot: Slot,
    suffix: Tokens,
    vocabulary: Sequence[int],
    *,
    steps: int,
    candidates: int,
    top_k: int,
    draw: Draw,
) -> tuple[Tokens, list[float]]:
    """Search for a suffix.

    Each step tries `candidates` random substitutions that survive being typed. It continues with
    the best of them, even if that is worse than before: on the nano models, a search that only
    descends is stuck after some 20 steps.

    Returns the best suffix of all steps, and the lowest loss at the start and after each step.
    """
    tokens = len(goal.embeddings())
    allowed = torch.zeros(tokens, dtype=torch.bool, device=goal.model.device)
    allowed[list(vocabulary)] = True
    lowest = _losses(goal, slot, [suffix])[0]
    best = suffix
    losses = [lowest]
    for _ in range(steps):
        slope = goal.gradient(slot, suffix)
        proposed = substitutions(slope, suffix, allowed, top_k)
        # Sorted by random keys: a shuffle that only needs the stream of draws.
        shuffled = sorted(proposed, key=lambda _: draw())
        chosen = slot.surviving(shuffled)[:candidates]
        pairs = zip(_losses(goal, slot, chosen), chosen, strict=True)
        loss, suffix = min(pairs, key=lambda pair: pair[0], default=(lowest, best))
        if loss < lowest:
            lowest = loss
            best = suffix
        losses.append(lowest)
    return best, losses


def _losses(goal: Goal, slot: Slot, suffixes: Sequence[Tokens]) -> list[float]:
    """Compute the loss of each suffix, all in one forward pass."""
    if not suffixes:
        return []
    likelihood = goal.of_prompts([slot.tokens(suffix) for suffix in suffixes])
    losses: list[float] = goal.losses(likelihood).tolist()
    return losses
