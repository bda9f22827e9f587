"""The paired bootstrap: models that answered the same prompts are compared prompt by prompt.

An interval of two separate rates takes the prompts of each as others, and so is too wide; it also
takes prompts for one act as independent, and so is too narrow. Here acts are drawn, and with them
both models' answers to all their prompts; where a model has several seeds, its seeds are drawn too
(two levels: Davison and Hinkley 1997, §3.8)."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from safelm.stats.rates import Difference

RESAMPLES = 10_000
SEED = 1

Outcomes = Mapping[str, bool]  # prompt: whether the event happened
Numbers = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Side:
    """One side of comparisons. A side is itself alone, so that what is drawn of it can be kept.

    Args:
        seeds: by the model of each seed, what became of every prompt.
        acts: what each prompt asks for. Prompts of one act are drawn together.
    """

    seeds: Mapping[str, Outcomes]
    acts: Mapping[str, str]

    @cached_property
    def prompts(self) -> set[str]:
        """What all seeds were asked."""
        return set.intersection(*(set(one) for one in self.seeds.values()))


@dataclass(frozen=True)
class Paired:
    """The difference of two rates over the prompts that both were asked, and how likely chance
    alone is to pass 0.
    """

    gap: Difference
    chance: float  # two-sided
    prompts: int


def paired(first: Side, second: Side, confidence: float) -> Paired | None:
    """`first - second`; None where they share no prompt. Two sides of the same models draw the same
    seeds.
    """
    shared = tuple(sorted(first.prompts & second.prompts))
    if not shared:
        return None
    ours, theirs = (_by_act(side, shared)[0] for side in (first, second))
    value = float(ours.mean(axis=0).sum() - theirs.mean(axis=0).sum()) / len(shared)
    stream = 1 if [*first.seeds] == [*second.seeds] else 2
    drawn = (_drawn(first, shared, 1) - _drawn(second, shared, stream)) / _asked(first, shared)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Paired(
        Difference(value, float(low), float(high)),
        _chance(value, drawn, ours.shape[1]),
        len(shared),
    )


def _chance(value: float, drawn: Numbers, acts: int) -> float:
    """Two-sided: the share of draws beyond 0, and where there is none the normal tail, which has no
    least value.

    Where every act says the same there is no spread: then it is that of as many coins.
    """
    beyond = min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))
    spread = float(drawn.std())
    if beyond:
        return min(1.0, 2 * beyond)
    return math.erfc(abs(value) / spread / math.sqrt(2)) if spread else 2.0 ** (1 - acts)


@lru_cache(maxsize=512)
def _by_act(side: Side, shared: tuple[str, ...]) -> tuple[Numbers, Numbers]:
    """(events of each seed and act, prompts of each act)."""
    _, rows, sizes = np.unique(
        [side.acts.get(prompt, prompt) for prompt in shared],
        return_inverse=True,
        return_counts=True,
    )
    seeds = ([float(one[prompt]) for prompt in shared] for one in side.seeds.values())
    return np.stack([np.bincount(rows, seed, len(sizes)) for seed in seeds]), sizes.astype(float)


@lru_cache(maxsize=512)
def _asked(side: Side, shared: tuple[str, ...]) -> Numbers:
    """Prompts under each draw of acts."""
    _, sizes = _by_act(side, shared)
    return _draws(len(sizes)) @ sizes


@lru_cache(maxsize=512)
def _drawn(side: Side, shared: tuple[str, ...], stream: int) -> Numbers:
    """Events under each draw of acts, averaged over a draw of the seeds."""
    events, sizes = _by_act(side, shared)
    counted, seeds = _draws(len(sizes)) @ events.T, len(events)
    return (
        counted[:, 0]
        if seeds == 1
        else np.take_along_axis(counted, _seeds(stream, seeds), axis=1).mean(axis=1)
    )


@lru_cache(maxsize=16)
def _seeds(stream: int, seeds: int) -> NDArray[np.int64]:
    """Which seeds each draw has, (resamples, seeds - 1); other models are drawn apart.

    One fewer than there are: the mean of as many would vary too little, by 1 - 1/seeds (McCarthy
    and Snowden 1985)."""
    return np.random.default_rng([SEED, stream, seeds]).integers(seeds, size=(RESAMPLES, seeds - 1))


@lru_cache(maxsize=8)
def _draws(acts: int) -> Numbers:
    """How often each act is drawn, (resamples, acts); the same for all comparisons of as many acts."""
    drawn = np.random.default_rng([SEED, acts]).multinomial(
        acts, np.full(acts, 1 / acts), RESAMPLES
    )
    return drawn.astype(float)


def holm(chances: Sequence[float]) -> list[float]:
    """Each chance raised for the number of comparisons (Holm 1979): those below 0.05 hold together
    at 95 %.
    """
    order = sorted(range(len(chances)), key=chances.__getitem__)
    raised, least = [0.0] * len(chances), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, chances[at] * (len(chances) - rank)))
        raised[at] = least
    return raised
