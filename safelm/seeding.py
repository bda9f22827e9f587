"""Seeded random draws: the same on every machine, in any order, with any number of workers."""

import hashlib
import heapq
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import blake2b
from random import Random
from typing import TypeVar

import numpy as np

T = TypeVar("T")


Draw = Callable[
    [], float
]  # a number in [0, 1): of Random, only random() is the same in every version of Python


def stream(*key: object) -> Draw:
    """Give the stream of chance of a key, such as (seed, part, index): the same on every machine,
    in any order.
    """
    return Random("/".join(map(str, key))).random


def pick(options: Sequence[T], draw: Draw) -> T:
    """Take one of the options, each as likely."""
    return options[int(draw() * len(options))]


def weigh(weights: Mapping[T, float], draw: Draw) -> T:
    """Take one of the keys, as likely as its weight."""
    rest = draw() * sum(weights.values())
    for key, weight in weights.items():
        rest -= weight
        if rest < 0:
            return key
    return key


def generator(*parts: object) -> np.random.Generator:
    """A generator for one purpose, from a digest of the parts: the same on every machine, unlike
    `hash`.
    """
    digest = hashlib.sha256(json.dumps(parts).encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:16], "big"))


def draw(purpose: str, seed: int, id: str) -> bytes:
    """A number drawn for one document, as eight bytes; stages with one seed draw apart by their
    purpose.
    """
    return blake2b(f"{purpose}:{seed}:{id}".encode(), digest_size=8).digest()


def sample(purpose: str, seed: int, ids: Iterable[str], count: int) -> list[str]:
    """The `count` ids with the smallest draws (all, if there are fewer), in the order of their
    draws.
    """
    return heapq.nsmallest(count, ids, key=lambda id: (draw(purpose, seed, id), id))
