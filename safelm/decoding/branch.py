"""Decoder `branch`: write several whole texts, then choose one that is likely and little tagged.

SafeBeam decides at every token. That is too early, because p(tag) rises late in a harmful text. And
its beams soon begin alike, so that a refusal, which begins differently, is out of reach. Here each
branch starts with another likely first token and is written to its end, greedily, as Wang and Zhou
(2024, arXiv 2402.10200) branch to find chains of thought. Only then is one branch chosen.

Branches are written one after another. With `retry_share`, the next is written only where the last
one is tagged enough to ask for it: most harmless prompts then cost one text, the greedy one.
"""

import math
from collections.abc import Iterable
from dataclasses import replace
from itertools import compress
from operator import attrgetter
from typing import Any

import torch
from torch import Tensor

from safelm.decoding.beams import Decoded
from safelm.decoding.search import Search
from safelm.stats.rates import mean
from specs.decoder import Branch


class BranchSearch(Search):
    """A batch of prompts, each continued by branches that compete only when they are written.

    The best branch has the greatest value of

        log p(first token) + mean log p(token) - tag_weight x mean p(tag at the end of a word)

    The mean does not favour short texts, as the log-probability of the whole text would. It hides
    how likely the model begins so, which the first term brings back.

    With a bound, a prompt is refused if any branch has a higher mean p(tag): a request that can be
    answered so harmfully is a harmful request. On seeds 2 and 3 this bound refused more harmful
    requests than a bound on the best branch, and no more harmless ones.
    """

    decoder: Branch

    def __init__(self, *values: Any, **settings: Any) -> None:
        super().__init__(*values, **settings)
        # Where every branch of a row begins: after the prompt.
        self.ban_tag()
        self.first = self.scores.clone()
        self.tree.keep()
        self.branches: list[list[Decoded]] = [[] for _ in self.prompts]

    def numbers(self, count: int) -> Tensor:
        """Return the random numbers of this step, (rows, 1); each branch has its own."""
        assert self.noise is not None
        written = [len(self.branches[prompt]) for prompt in self.prompts.tolist()]
        return self.noise[self.rows, self.steps, written][:, None]

    def settled(self) -> Tensor:
        """Mark also the texts that will be above the bound, whatever follows.

        Their mean p(tag) would be, if every token from here on ended a word with a p(tag) of 0.
        """
        bound = self.decoder.max_tag_probability
        if bound is None or self.starts is None:
            return super().settled()
        # A word has ended before every token that opens one.
        has_ended = self.starts[self.beams.tokens[:, 0, 1:]]
        total = (self.beams.tags[:, 0, :-1] * has_ended).sum(dim=-1)
        return super().settled() | (total > bound * self.new_tokens)

    def record(self, rows: Tensor, stopped_at: Tensor | None = None) -> None:
        """Add the branch of these prompts; begin the next, or record the best after the last."""
        new = (rows & ~self.done).nonzero()[:, 0]
        super().record(rows)
        tokens = self.beams.tokens[new, 0, 0]
        openings = self.first[new, 0, tokens].tolist()
        # No branch begins twice with one token.
        self.first[new, 0, tokens] = -torch.inf
        added = zip(new.tolist(), openings, strict=True)
        self.restart([row for row, opening in added if self.is_asked(row, opening)])

    def restart(self, rows: list[int]) -> None:
        """Begin another branch of some rows."""
        self.done[rows] = False
        self.steps[rows] = 0
        self.scores[rows] = self.first[rows]
        for tensor in (self.beams.tokens, self.beams.length, self.beams.log_probability):
            tensor[rows] = 0
        self.beams.finished[rows] = False
        self.tree.restart(rows)

    def is_asked(self, row: int, opening: float) -> bool:
        """Decide whether a prompt needs a further branch; if not, record its text.

        `opening` is the log-probability of the first token of the branch that was written.
        """
        prompt = int(self.prompts[row])
        text = self.decoded[prompt]
        assert text  # recorded just before
        decoder = self.decoder
        score = tag_mean(text, self.starts)
        length = len(text.tokens) + text.finished
        value = opening + text.log_probability / length - decoder.tag_weight * score
        branches = self.branches[prompt]
        branches.append(replace(text, value=value, score=score, written=(length,)))
        bound, share = decoder.max_tag_probability, decoder.retry_share
        is_refused = bound is not None and score > bound
        # Without a bound or a share of it, every branch is written.
        is_low = bound is not None and share is not None and score <= share * bound
        has_next = self.first[row].max() >= self.log_floor
        if has_next and len(branches) < decoder.branches and not (is_refused or is_low):
            self.decoded[prompt] = None
            return True
        best = max(branches, key=attrgetter("value"))
        if is_refused:
            best = Decoded([], False, True, text.log_probability, [])
        score = refusal_score([branch.score for branch in branches], share)
        written = tuple(branch.written[0] for branch in branches)
        self.decoded[prompt] = replace(best, score=score, written=written)
        return False

    def select(self, rows: Tensor) -> None:
        """Go on with these prompts only."""
        super().select(rows)
        self.first = self.first[rows]


def tag_mean(text: Decoded, starts: Tensor | None) -> float:
    """Average p(tag) over the word ends of a text: its end, and before what opens a word."""
    if starts is None:
        return 0.0
    # Inside a word p(tag) is next to 0, so those tokens would only dilute the mean.
    ends = compress(text.tag_probabilities, starts[text.tokens[1:]].tolist())
    return mean([*ends, *text.tag_probabilities[-1:]]) or 0.0


def refusal_score(scores: Iterable[float], retry_share: float | None) -> float:
    """Return the bound below which a prompt is refused, from the mean p(tag) of its branches.

    It is the highest; with `retry_share`, of those that are written under that bound: all before
    them are above that share of it.
    """
    highest, reach = 0.0, math.inf
    for score in scores:
        highest = max(highest, min(score, reach))
        if retry_share:
            reach = min(reach, score / retry_share)
    return highest
