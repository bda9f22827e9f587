"""Hashed n-grams of words, and of the characters within words, counted for many texts at once.

All is arithmetic on arrays of code points in fixed 64-bit numbers, never hash(): a text's counts
are the same on every machine and do not depend on the texts beside it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

FACTOR = np.uint64(0x9E3779B97F4A7C15)  # splitmix64 (Steele, Lea and Flood 2014)
BASIC = 0x3000  # code points of the alphabets; a text with others looks its letters up in the whole table
ROWS = 512
CHARACTERS = 1 << 18  # of a batch: its arrays stay in the processor's cache

Integers = NDArray[np.int64]
Keys = NDArray[
    np.int32
]  # ROWS x 2^20 buckets are below 2^31; short numbers are sorted twice as fast
Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Counts:
    """How often each bucket occurs in each text: entries sorted by text, then by bucket."""

    texts: int
    rows: Integers
    buckets: Integers
    counts: Integers

    def weights(self, idf: Floats) -> Floats:
        """(1 + log count) x idf, each text scaled to length 1. `idf` has a value for each entry."""
        values = (1.0 + np.log(self.counts)) * idf
        lengths = np.sqrt(np.bincount(self.rows, values**2, self.texts))
        return values / lengths[self.rows]


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Texts in lists that fit the cache, in order."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) == ROWS or size >= CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def count_ngrams(
    texts: Sequence[str], words: Sequence[int], characters: Sequence[int], buckets: int
) -> Counts:
    """Count n-grams of the given lengths. Words are runs of letters and digits, in lower case; the
    rest is gaps.
    """
    found = []
    first = 0
    for batch in batches(texts):
        keys = np.concatenate([np.zeros(0, np.int32), *_keys(batch, words, characters, buckets)])
        unique, counts = np.unique(keys, return_counts=True)
        found.append((unique // buckets + np.int64(first), unique % buckets, counts))
        first += len(batch)
    nothing = np.zeros(0, dtype=np.int64)
    rows, places, counts = (
        np.concatenate([nothing, *(part[side] for part in found)]) for side in range(3)
    )
    return Counts(len(texts), rows, places, counts)


def _keys(
    texts: Sequence[str], words: Sequence[int], characters: Sequence[int], buckets: int
) -> Iterator[Keys]:
    """row x buckets + bucket of every n-gram, kind by kind. A gap stands before, between and behind
    the texts.
    """
    joined = f" {'  '.join(texts)} "
    raw = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    codes = letters(0x110000 if raw.max() >= BASIC else BASIC)[raw]
    inside = codes != 0
    rows = np.repeat(np.arange(len(texts), dtype=np.int32), [len(text) + 2 for text in texts])
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1  # in turn the start of a word and its end
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return
    if words:
        yield from _word_ngrams(
            _words(codes, inside, starts, ends), rows[starts], sorted(words), buckets
        )
    if characters:
        yield from _character_ngrams(codes, inside, rows, sorted(characters), buckets)


@cache
def letters(size: int) -> NDArray[np.uint32]:
    """For each code point below `size` its lower case, if it is a letter or a digit, and else 0."""
    lowered = (ord(chr(code).lower()[0]) if chr(code).isalnum() else 0 for code in range(size))
    return np.fromiter(lowered, dtype=np.uint32, count=size)


def _words(
    codes: NDArray[np.uint32], inside: NDArray[np.bool_], starts: Integers, ends: Integers
) -> Hashes:
    """A hash of each word: its code points as the digits of a number."""
    lengths = ends - starts
    digits = np.arange(lengths.sum()) - np.repeat(
        np.cumsum(lengths) - lengths, lengths
    )  # places within the words
    powers = np.multiply.accumulate(np.full(lengths.max(), FACTOR))
    values = codes[inside] * powers[digits]
    return np.add.reduceat(values, np.cumsum(lengths) - lengths)


def _word_ngrams(words: Hashes, rows: Keys, orders: Sequence[int], buckets: int) -> Iterator[Keys]:
    for order in orders:
        places = len(words) - order + 1
        if places > 0:
            mixed = np.full(places, order, dtype=np.uint64)
            for offset in range(order):
                mixed = scramble(mixed + words[offset : offset + places])
            yield _placed(mixed, rows, rows[:places] == rows[order - 1 :], buckets)


def _character_ngrams(
    codes: NDArray[np.uint32],
    inside: NDArray[np.bool_],
    rows: Keys,
    orders: Sequence[int],
    buckets: int,
) -> Iterator[Keys]:
    """Runs of characters that touch a word and have a gap at their ends alone; every gap counts as
    one space.
    """
    kept = inside.copy()
    kept[:-1] |= inside[1:]
    kept[1:] |= inside[:-1]
    codes, inside, rows = codes[kept].astype(np.uint64), inside[kept], rows[kept]
    gaps = np.cumsum(~inside, dtype=np.int32)
    mixed = np.full(len(codes), 1 << 20, dtype=np.uint64)  # apart from the words'
    for order in range(1, orders[-1] + 1):
        places = len(codes) - order + 1
        if places <= 0:
            return
        mixed = scramble(mixed[:places] + codes[order - 1 :])
        if order in orders:  # two gaps stand between two texts, so that no run crosses
            within = gaps[order - 2 : len(gaps) - 1] == gaps[:places]
            within &= inside[:places] | inside[order - 1 :] if order == 2 else True
            yield _placed(mixed, rows, within, buckets)


def _placed(hashes: Hashes, rows: Keys, chosen: NDArray[np.bool_], buckets: int) -> Keys:
    """row x buckets + bucket of the chosen ones: the upper half of a hash, scaled to the buckets."""
    places = np.flatnonzero(chosen)
    bucket = ((hashes.take(places) >> np.uint64(32)) * np.uint64(buckets)) >> np.uint64(32)
    return rows.take(places) * np.int32(buckets) + bucket.astype(np.int32)


def scramble(values: Hashes) -> Hashes:
    """The finaliser of splitmix64; unsigned 64-bit numbers wrap around on every machine alike."""
    values = values * FACTOR
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(31))
