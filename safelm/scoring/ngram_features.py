"""Hashed n-grams of words, and of the characters within words, counted for many texts at once.

All is arithmetic on arrays of code points in fixed 64-bit numbers, never hash(). A text's counts
are the same on every machine and do not depend on the texts beside it. Own code instead of
scikit-learn's HashingVectorizer, because the bytes must be reproducible.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

FACTOR = np.uint64(0x9E3779B97F4A7C15)  # splitmix64 (Steele, Lea and Flood 2014)
# Code points of the alphabets; a batch with others needs the table of all code points.
BASIC = 0x3000
ALL_CODE_POINTS = 0x110000
# Bounds of a batch: its arrays stay in the processor's cache.
MAX_TEXTS = 512
MAX_CHARACTERS = 1 << 18

Integers = NDArray[np.int64]
# MAX_TEXTS x 2^20 buckets are below 2^31; short numbers are sorted twice as fast.
Keys = NDArray[np.int32]
Floats = NDArray[np.float64]
Hashes = NDArray[np.uint64]
Codes = NDArray[np.uint32]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """The number of times each bucket occurs in each text: entries sorted by text, then bucket."""

    texts: int
    rows: Integers
    buckets: Integers
    counts: Integers

    def weights(self, idf: Floats) -> Floats:
        """Return (1 + log count) x idf, each text scaled to length 1.

        `idf` has a value for each entry.
        """
        values = (1.0 + np.log(self.counts)) * idf
        lengths = np.sqrt(np.bincount(self.rows, values**2, self.texts))
        return values / lengths[self.rows]


def batches(texts: Sequence[str]) -> Iterator[list[str]]:
    """Yield texts in order, in lists whose arrays fit the cache."""
    batch: list[str] = []
    size = 0
    for text in texts:
        batch.append(text)
        size += len(text)
        if len(batch) == MAX_TEXTS or size >= MAX_CHARACTERS:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


def count_ngrams(
    texts: Sequence[str], words: Sequence[int], characters: Sequence[int], buckets: int
) -> Counts:
    """Count the n-grams of words and of characters that have the given lengths.

    Words are runs of letters and digits, in lower case; everything else is a gap between them.
    """
    rows = [np.zeros(0, dtype=np.int64)]
    columns, counts = rows[:], rows[:]
    first = 0
    for batch in batches(texts):
        keys = np.concatenate([np.zeros(0, np.int32), *_keys(batch, words, characters, buckets)])
        unique, times = np.unique(keys, return_counts=True)
        rows.append(unique // buckets + np.int64(first))
        columns.append(unique % buckets)
        counts.append(times)
        first += len(batch)
    return Counts(len(texts), *map(np.concatenate, (rows, columns, counts)))


def _keys(
    texts: Sequence[str], words: Sequence[int], characters: Sequence[int], buckets: int
) -> Iterator[Keys]:
    """Yield row x buckets + bucket of every n-gram, kind by kind."""
    # A gap stands before, between and behind the texts.
    joined = f" {'  '.join(texts)} "
    raw = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    codes = lower_case_table(ALL_CODE_POINTS if raw.max() >= BASIC else BASIC)[raw]
    inside = codes != 0
    rows = np.repeat(np.arange(len(texts), dtype=np.int32), [len(text) + 2 for text in texts])
    # Edges are in turn the start of a word and its end.
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return
    if words:
        hashes = _word_hashes(codes[inside], ends - starts)
        yield from _word_ngrams(hashes, rows[starts], sorted(words), buckets)
    if characters:
        yield from _character_ngrams(codes, inside, rows, sorted(characters), buckets)


@cache
def lower_case_table(size: int) -> Codes:
    """Return for each code point below `size` its lower case, or 0 if it is no letter or digit."""
    lowered = (ord(chr(code).lower()[0]) if chr(code).isalnum() else 0 for code in range(size))
    return np.fromiter(lowered, dtype=np.uint32, count=size)


def _word_hashes(codes: Codes, lengths: Integers) -> Hashes:
    """Return a hash of each word: its code points are the digits of a number in base FACTOR."""
    starts = np.cumsum(lengths) - lengths
    digits = np.arange(lengths.sum()) - np.repeat(starts, lengths)
    powers = np.multiply.accumulate(np.full(lengths.max(), FACTOR))
    return np.add.reduceat(codes * powers[digits], starts)


def _word_ngrams(words: Hashes, rows: Keys, orders: Sequence[int], buckets: int) -> Iterator[Keys]:
    for order in orders:
        size = len(words) - order + 1
        if size > 0:
            mixed = np.full(size, order, dtype=np.uint64)
            for offset in range(order):
                mixed = scramble(mixed + words[offset : offset + size])
            is_within_text = rows[:size] == rows[order - 1 :]
            yield _keys_of(mixed, rows, is_within_text, buckets)


def _character_ngrams(
    codes: Codes, inside: Mask, rows: Keys, orders: Sequence[int], buckets: int
) -> Iterator[Keys]:
    """Yield the keys of runs of characters that touch a word, with gaps at their ends alone.

    Every gap counts as one space.
    """
    kept = inside.copy()
    kept[:-1] |= inside[1:]
    kept[1:] |= inside[:-1]
    hashed, inside, rows = codes[kept].astype(np.uint64), inside[kept], rows[kept]
    gaps = np.cumsum(~inside, dtype=np.int32)
    mixed = np.full(len(hashed), 1 << 20, dtype=np.uint64)  # another start than the words'
    for order in range(1, orders[-1] + 1):
        size = len(hashed) - order + 1
        if size <= 0:
            return
        mixed = scramble(mixed[:size] + hashed[order - 1 :])
        if order in orders:
            # Two gaps stand between two texts, so no run crosses from one to the next.
            is_within_word = gaps[order - 2 : len(gaps) - 1] == gaps[:size]
            if order == 2:
                is_within_word &= inside[:size] | inside[order - 1 :]
            yield _keys_of(mixed, rows, is_within_word, buckets)


def _keys_of(hashes: Hashes, rows: Keys, chosen: Mask, buckets: int) -> Keys:
    """Return row x buckets + bucket of the chosen hashes; their upper half selects the bucket."""
    indices = np.flatnonzero(chosen)
    upper = hashes.take(indices) >> np.uint64(32)
    bucket = (upper * np.uint64(buckets)) >> np.uint64(32)
    return rows.take(indices) * np.int32(buckets) + bucket.astype(np.int32)


def scramble(values: Hashes) -> Hashes:
    """Apply the finaliser of splitmix64.

    Unsigned 64-bit numbers wrap around on every machine alike.
    """
    values = values * FACTOR
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(31))
