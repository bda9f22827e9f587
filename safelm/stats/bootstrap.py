"""Paired bootstrap: models that answered the same prompts are compared prompt by prompt.

An interval of two separate rates treats the prompts of each as different ones, and is too wide; it
also treats prompts for one act as independent, and is too narrow. Here acts are drawn, and with
them both models' answers to all their prompts. Where a model has several seeds, its seeds are drawn
too (two levels: Davison and Hinkley 1997, §3.8).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from safelm.seeding import integer_generator
from safelm.stats.differences import Difference

# So many that a p-value of 0.05 has a standard error of 0.003.
RESAMPLES = 10_000
SEED = 1

Outcomes = Mapping[str, bool]  # prompt: whether the event happened
Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Side:
    """One side of a comparison. Compared by identity, so that its draws can be cached.

    Args:
        seeds: the outcome of every prompt, by the model of each seed.
        acts: the act that each prompt asks for. Prompts of one act are drawn together.
    """

    seeds: Mapping[str, Outcomes]
    acts: Mapping[str, str]

    @cached_property
    def prompts(self) -> set[str]:
        """The prompts that all seeds answered."""
        return set.intersection(*(set(outcomes) for outcomes in self.seeds.values()))


@dataclass(frozen=True)
class Paired:
    """The difference of two rates over shared prompts, with its two-sided p-value."""

    gap: Difference
    p_value: float
    prompts: int


def paired(first: Side, second: Side, confidence: float) -> Paired | None:
    """Compute `first - second`; None where they share no prompt.

    Two sides of the same models draw the same seeds.
    """
    shared = tuple(sorted(first.prompts & second.prompts))
    if not shared:
        return None
    ours, sizes = _events_by_act(first, shared)
    theirs, _ = _events_by_act(second, shared)
    our_events = ours.mean(axis=0).sum()
    their_events = theirs.mean(axis=0).sum()
    value = float(our_events - their_events) / len(shared)
    # Other models were trained by other draws, so their seeds are drawn independently.
    stream = 1 if [*first.seeds] == [*second.seeds] else 2
    our_draws = _drawn_events(first, shared, 1)
    their_draws = _drawn_events(second, shared, stream)
    # Acts have unequal numbers of prompts, so draws of acts differ in their prompts.
    drawn = (our_draws - their_draws) / _drawn_prompts(first, shared)
    bounds = [(1 - confidence) / 2, (1 + confidence) / 2]
    low, high = np.quantile(drawn, bounds)
    gap = Difference(value, float(low), float(high))
    p_value = _p_value(value, drawn, len(sizes))
    return Paired(gap, p_value, len(shared))


def _p_value(value: float, drawn: Numbers, acts: int) -> float:
    """Return twice the share of draws beyond 0, or the normal tail where no draw is beyond it.

    The tail has no least value, unlike a count of draws. Where every act gives the same difference
    there is no spread at all; the p-value is then that of as many tosses of a coin.
    """
    below = float((drawn <= 0).mean())
    above = float((drawn >= 0).mean())
    spread = float(drawn.std())
    if below and above:
        # Twice, for the test is two-sided.
        return min(1.0, 2 * min(below, above))
    if spread:
        # erfc(z / √2) is the two-sided tail of the normal distribution beyond z.
        z = abs(value) / spread
        return math.erfc(z / math.sqrt(2))
    return 2.0 ** (1 - acts)


@lru_cache(maxsize=512)
def _events_by_act(side: Side, shared: tuple[str, ...]) -> tuple[Numbers, Numbers]:
    """Count events, (seeds, acts), and prompts, (acts,)."""
    acts = [side.acts.get(prompt, prompt) for prompt in shared]
    _, rows, sizes = np.unique(acts, return_inverse=True, return_counts=True)
    events = []
    for outcomes in side.seeds.values():
        happened = [float(outcomes[prompt]) for prompt in shared]
        by_act = np.bincount(rows, happened, len(sizes))
        events.append(by_act)
    return np.stack(events), sizes.astype(float)


@lru_cache(maxsize=512)
def _drawn_prompts(side: Side, shared: tuple[str, ...]) -> Numbers:
    """Count the prompts under each draw of acts, (resamples,)."""
    _, sizes = _events_by_act(side, shared)
    return _draws(len(sizes)) @ sizes


@lru_cache(maxsize=512)
def _drawn_events(side: Side, shared: tuple[str, ...], stream: int) -> Numbers:
    """Count events under each draw of acts, averaged over a draw of the seeds, (resamples,)."""
    events, sizes = _events_by_act(side, shared)
    counted = _draws(len(sizes)) @ events.T
    seeds = len(events)
    if seeds == 1:
        return counted[:, 0]
    drawn_seeds = _drawn_seeds(stream, seeds)
    chosen = np.take_along_axis(counted, drawn_seeds, axis=1)
    return chosen.mean(axis=1)


@lru_cache(maxsize=16)
def _drawn_seeds(stream: int, seeds: int) -> NDArray[np.int64]:
    """Draw seeds for each resample, (resamples, seeds - 1); each stream draws independently.

    One seed fewer than there are: the mean of as many would vary too little, by 1 - 1/seeds
    (McCarthy and Snowden 1985).
    """
    generator = integer_generator(SEED, stream, seeds)
    return generator.integers(seeds, size=(RESAMPLES, seeds - 1))


@lru_cache(maxsize=8)
def _draws(acts: int) -> Numbers:
    """Count the draws of each act, (resamples, acts); the same for all comparisons of as many."""
    generator = integer_generator(SEED, acts)
    equally = np.full(acts, 1 / acts)
    drawn = generator.multinomial(acts, equally, RESAMPLES)
    # Floats, because numpy multiplies matrices of integers many times slower.
    return drawn.astype(float)


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values for the number of comparisons (Holm 1979).

    All comparisons whose adjusted p-value is below 0.05 hold together at 95 %.
    """
    count = len(p_values)
    order = sorted(range(count), key=p_values.__getitem__)
    adjusted = [0.0] * count
    least = 0.0
    for rank, index in enumerate(order):
        comparisons_left = count - rank
        raised = min(1.0, p_values[index] * comparisons_left)
        # An adjusted value is at least that of the comparison before it.
        least = max(least, raised)
        adjusted[index] = least
    return adjusted
