"""Seeded random draws: the same key gives the same numbers on every machine and in any order.

Every random draw of the project comes from this module. The spelling of a key decides what is
drawn, so a change of a key or a digest changes the outputs of every build.
"""

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Mapping, MutableSequence, Sequence
from random import Random
from typing import Any, TypeVar

import numpy as np

T = TypeVar("T")

# A stream of numbers in [0, 1).
Draw = Callable[[], float]


def stream(*key: object) -> Draw:
    """Return a stream of uniform numbers in [0, 1) for a key such as (seed, part, index)."""
    # random() is the only method of Random whose numbers Python keeps the same in every version.
    return Random("/".join(map(str, key))).random


def pick(options: Sequence[T], draw: Draw) -> T:
    """Return one of the options, each with the same probability."""
    return options[int(draw() * len(options))]


def pick_several(options: Iterable[T], count: int, draw: Draw) -> list[T]:
    """Return `count` different options in the order drawn."""
    rest = list(options)
    return [rest.pop(int(draw() * len(rest))) for _ in range(count)]


def pick_weighted(weights: Mapping[T, float], draw: Draw) -> T:
    """Return one of the keys with a probability proportional to its weight."""
    rest = draw() * sum(weights.values())
    for key, weight in weights.items():
        rest -= weight
        if rest < 0:
            return key
    # Rounding can leave a rest at the end; the last key takes it.
    return key


def shuffler(*key: object) -> Callable[[MutableSequence[Any]], None]:
    """Return a function that shuffles lists in place; every call continues the key's stream."""
    return Random(":".join(map(str, key))).shuffle


def generator(*key: object) -> np.random.Generator:
    """Return a NumPy generator for a key of JSON values; it does not depend on `hash`."""
    return _generator(json.dumps(key))


def prompt_generator(seed: int, prompt: Sequence[int]) -> np.random.Generator:
    """Return a NumPy generator for a seed and the tokens of a prompt."""
    return _generator(repr((seed, list(prompt))))


def integer_generator(*key: int) -> np.random.Generator:
    """Return a NumPy generator seeded with whole numbers, which NumPy combines itself."""
    return np.random.default_rng(list(key))


def sampling_seed(*key: object) -> int:
    """Return a seed from 0 to 2³¹ - 1 for the sampling of a language model."""
    digest = _digest("/".join(map(str, key)))
    return int.from_bytes(digest, "big") % 2**31


def hash_rank(purpose: str, seed: int, id: str) -> bytes:
    """Return the eight bytes by which documents are ranked for a sample.

    `purpose` keeps stages that share a seed from sampling the same documents.
    """
    return _digest(f"{purpose}:{seed}:{id}")


def sample(purpose: str, seed: int, ids: Iterable[str], count: int) -> list[str]:
    """Return the `count` ids of lowest rank, from the lowest up; all ids if there are fewer."""
    # The id decides between equal hashes, so the order of `ids` never matters.
    return heapq.nsmallest(count, ids, key=lambda id: (hash_rank(purpose, seed, id), id))


def _generator(key: str) -> np.random.Generator:
    digest = hashlib.sha256(key.encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def _digest(key: str) -> bytes:
    return hashlib.blake2b(key.encode(), digest_size=8).digest()
