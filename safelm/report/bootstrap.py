"""The paired bootstrap: models that answered the same prompts are compared prompt by prompt.

An interval of two separate rates takes the prompts of each as others, and so is too wide; it also takes prompts for one
act as independent, and so is too narrow. Here acts are drawn, and with them both models' answers to all their prompts;
where a model has several seeds, its seeds are drawn too (two levels: Davison and Hinkley 1997, §3.8).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from safelm.statistics import Difference

RESAMPLES = 10_000
SEED = 1

Outcomes = Mapping[str, bool]  # prompt: whether the event happened
Numbers = NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """The difference of two rates over the prompts that both were asked, and how likely chance alone is to pass 0."""

    gap: Difference
    chance: float  # two-sided
    prompts: int


def paired(
    first: Sequence[Outcomes], second: Sequence[Outcomes], acts: Mapping[str, str], confidence: float
) -> Paired | None:
    """`first - second`, each given by its seeds; None where they share no prompt.

    Args:
        acts: what each prompt asks for. Prompts of one act are drawn together.
    """
    shared = sorted(set.intersection(*(set(one) for one in (*first, *second))))
    if not shared:
        return None
    names = sorted({acts.get(prompt, prompt) for prompt in shared})
    place = {name: at for at, name in enumerate(names)}
    rows = np.array([place[acts.get(prompt, prompt)] for prompt in shared])
    counts = np.bincount(rows, minlength=len(names)).astype(float)
    sides = [_by_act(side, shared, rows, len(names)) for side in (first, second)]
    value = float(sides[0].mean(axis=0).sum() - sides[1].mean(axis=0).sum()) / len(shared)
    weights = _draws(len(names))
    drawn = (_mean(sides[0], weights, 1) - _mean(sides[1], weights, 2)) / (weights @ counts)
    low, high = np.quantile(drawn, [(1 - confidence) / 2, (1 + confidence) / 2])
    return Paired(Difference(value, float(low), float(high)), _chance(value, drawn, len(names)), len(shared))


def _chance(value: float, drawn: Numbers, acts: int) -> float:
    """Two-sided: the share of draws beyond 0, and where there is none the normal tail, which has no least value.

    Where every act says the same there is no spread: then it is that of as many coins.
    """
    beyond = min(float((drawn <= 0).mean()), float((drawn >= 0).mean()))
    spread = float(drawn.std())
    if beyond:
        return min(1.0, 2 * beyond)
    return math.erfc(abs(value) / spread / math.sqrt(2)) if spread else 2.0 ** (1 - acts)


def _by_act(seeds: Sequence[Outcomes], shared: Sequence[str], rows: NDArray[np.int64], acts: int) -> Numbers:
    """Events of each seed and act, (seeds, acts)."""
    return np.stack([np.bincount(rows, [float(one[prompt]) for prompt in shared], acts) for one in seeds])


def _mean(events: Numbers, weights: Numbers, side: int) -> Numbers:
    """Events under each draw of acts, averaged over a draw of the seeds."""
    counted = weights @ events.T
    seeds = len(events)
    if seeds == 1:
        return counted[:, 0]
    return np.take_along_axis(counted, _seeds(side, seeds), axis=1).mean(axis=1)


@lru_cache(maxsize=16)
def _seeds(side: int, seeds: int) -> NDArray[np.int64]:
    """Which seeds each draw has, (resamples, seeds); the two sides of a comparison are drawn apart."""
    return np.random.default_rng([SEED, side, seeds]).integers(seeds, size=(RESAMPLES, seeds))


@lru_cache(maxsize=8)
def _draws(acts: int) -> Numbers:
    """How often each act is drawn, (resamples, acts); the same for all comparisons of as many acts."""
    drawn = np.random.default_rng([SEED, acts]).multinomial(acts, np.full(acts, 1 / acts), RESAMPLES)
    return drawn.astype(float)


def holm(chances: Sequence[float]) -> list[float]:
    """Each chance raised for the number of comparisons (Holm 1979): those below 0.05 hold together at 95 %."""
    order = sorted(range(len(chances)), key=chances.__getitem__)
    raised, least = [0.0] * len(chances), 0.0
    for rank, at in enumerate(order):
        least = max(least, min(1.0, chances[at] * (len(chances) - rank)))
        raised[at] = least
    return raised
