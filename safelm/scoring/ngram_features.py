"""Hashed n-grams of words, and of the characters within words, counted for many texts at once.

The counts of a text are the same on every machine, whatever other texts are in its batch. Own code
instead of scikit-learn's HashingVectorizer, because the bytes must be reproducible: all is 64-bit
arithmetic on arrays of code points.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from safelm.documents.batches import Size, batches
from safelm.text.word_hashes import (
    Codes,
    Hashes,
    Integers,
    code_points,
    hash_runs,
    scramble,
)

# The arrays of a batch stay in the processor's cache.
BATCH = Size(rows=512, characters=1 << 18)

# row x buckets + bucket. 512 rows x 2^20 buckets are below 2^31; 32 bits sort twice as fast as 64.
Keys = NDArray[np.int32]
Floats = NDArray[np.float64]
Mask = NDArray[np.bool_]


@dataclass(frozen=True)
class Counts:
    """The number of times each bucket occurs in each text, sorted by text, then bucket.

    `rows`, `buckets` and `counts` have one value for each (text, bucket) that occurs.
    """

    texts: int
    rows: Integers
    buckets: Integers
    counts: Integers

    def weights(self, idf: Floats) -> Floats:
        """Return (1 + log count) x idf, scaled so that the vector of each text has length 1.

        `idf` has one value for each entry of `counts`.
        """
        values = (1.0 + np.log(self.counts)) * idf
        lengths = np.sqrt(np.bincount(self.rows, values**2, self.texts))
        return values / lengths[self.rows]


def count_ngrams(
    texts: Sequence[str], words: Sequence[int], characters: Sequence[int], buckets: int
) -> Counts:
    """Count n-grams of `words` words and of `characters` characters; each lists the lengths.

    A word is a run of letters and digits, in lower case; everything else is a gap.
    """
    rows = [np.zeros(0, dtype=np.int64)]
    columns, counts = rows[:], rows[:]
    first = 0  # the index of the batch's first text
    for batch in batches(texts, BATCH):
        # Concatenating nothing is an error, hence the empty array.
        empty = np.zeros(0, np.int32)
        keys = np.concatenate([empty, *_keys(batch, words, characters, buckets)])
        unique, times = np.unique(keys, return_counts=True)
        # In 64 bits: only the keys of one batch are bounded to 32.
        rows.append(unique // buckets + np.int64(first))
        columns.append(unique % buckets)
        counts.append(times)
        first += len(batch)
    return Counts(len(texts), *map(np.concatenate, (rows, columns, counts)))


def _keys(
    texts: Sequence[str], words: Sequence[int], characters: Sequence[int], buckets: int
) -> Iterator[Keys]:
    """Yield the keys of all n-grams: those of words first, each length by itself."""
    # One gap before each text and one after it.
    joined = f" {'  '.join(texts)} "
    _, codes = code_points(joined)
    inside = codes != 0
    widths = [len(text) + 2 for text in texts]
    rows = np.repeat(np.arange(len(texts), dtype=np.int32), widths)
    # Edges alternate between the start of a word and its end.
    edges = np.flatnonzero(inside[1:] != inside[:-1]) + 1
    starts, ends = edges[::2], edges[1::2]
    if not len(starts):
        return
    if words:
        hashes = hash_runs(codes[inside], ends - starts)
        yield from _word_ngrams(hashes, rows[starts], sorted(words), buckets)
    if characters:
        yield from _character_ngrams(codes, inside, rows, sorted(characters), buckets)


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
    """Yield the keys of runs of characters within a word and the gaps beside it."""
    # Of each gap the characters beside a word are kept: " a, b " is hashed as " a  b ".
    kept = inside.copy()
    kept[:-1] |= inside[1:]
    kept[1:] |= inside[:-1]
    hashed = codes[kept].astype(np.uint64)
    inside = inside[kept]
    rows = rows[kept]
    gaps = np.cumsum(~inside, dtype=np.int32)
    # Not the start of word n-grams (their order), lest equal n-grams of both kinds share a bucket.
    mixed = np.full(len(hashed), 1 << 20, dtype=np.uint64)
    for order in range(1, orders[-1] + 1):
        size = len(hashed) - order + 1
        if size <= 0:
            return
        mixed = scramble(mixed[:size] + hashed[order - 1 :])
        if order in orders:
            # No gap but at the ends. Two gaps lie between two texts, so no run joins them.
            is_within_word = gaps[order - 2 : len(gaps) - 1] == gaps[:size]
            # Two neighbouring gaps are no run of a word.
            if order == 2:
                is_within_word &= inside[:size] | inside[order - 1 :]
            yield _keys_of(mixed, rows, is_within_word, buckets)


def _keys_of(hashes: Hashes, rows: Keys, chosen: Mask, buckets: int) -> Keys:
    """Return the keys of the chosen hashes."""
    # The upper 32 bits, times `buckets`, select the bucket without a division (Lemire 2019).
    indices = np.flatnonzero(chosen)
    upper = hashes.take(indices) >> np.uint64(32)
    bucket = (upper * np.uint64(buckets)) >> np.uint64(32)
    return rows.take(indices) * np.int32(buckets) + bucket.astype(np.int32)
