"""Hashes of words and of word n-grams, by which texts are compared.

A word is a run of letters and digits, in lower case; everything else is a gap. All is 64-bit
arithmetic on arrays of code points, so that a hash is the same on every machine.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

# The increment of splitmix64 (Steele, Lea and Flood 2014).
FACTOR = np.uint64(0x9E3779B97F4A7C15)
INVERSE = np.uint64(pow(int(FACTOR), -1, 1 << 64))
# Nearly all alphabets lie below it. The table of all code points takes much longer to make.
BASIC = 0x3000
ALL_CODE_POINTS = 0x110000
# Scripts without spaces between words, as pairs of bounds: Thai and Lao, Burmese, Khmer, Chinese
# and Japanese. There, each letter counts as a word.
UNSPACED = np.array(
    [0xE00, 0xF00, 0x1000, 0x10A0, 0x1780, 0x1800, 0x2E80, 0xA000, 0xF900, 0xFB00, 0x20000, 0x33480]
)

Hashes = NDArray[np.uint64]
Codes = NDArray[np.uint32]
Integers = NDArray[np.int64]


def with_prompt(prompt: str | None, text: str) -> str:
    """Return the whole text of a document: that of a dialogue begins with its prompt."""
    return text if prompt is None else f"{prompt}\n{text}"


def hash_words(text: str) -> Hashes:
    """Return a hash of each word of a text, in order."""
    raw, codes = code_points(text)
    inside = codes != 0
    begins = inside.copy()
    begins[1:] &= ~inside[:-1]
    if raw.max(initial=0) >= UNSPACED[0]:
        is_alone = inside & (np.searchsorted(UNSPACED, raw, side="right") % 2 == 1)
        begins |= is_alone
        # A letter that is a word by itself also ends there: the next one begins another.
        begins[1:] |= inside[1:] & is_alone[:-1]
    starts = np.flatnonzero(begins[inside])
    letters = codes[inside]
    return scramble(hash_runs(letters, np.diff(starts, append=len(letters))))


def code_points(text: str) -> tuple[Codes, Codes]:
    """Return the code points of a text, and those of its letters in lower case; 0 for a gap."""
    raw = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32)
    size = ALL_CODE_POINTS if raw.max(initial=0) >= BASIC else BASIC
    return raw, lower_case_table(size)[raw]


def hash_ngrams(words: Hashes, length: int) -> Hashes:
    """Return a hash of each run of `length` words, from the hashes of the words."""
    powers = np.multiply.accumulate(np.full(len(words), FACTOR))
    sums = np.concatenate([np.zeros(1, np.uint64), np.cumsum(words * powers)])
    # The words of a run as the digits of a number, wherever the run begins.
    runs = sums[length:] - sums[: max(len(sums) - length, 0)]
    # Divides by the power at which a run begins, so that equal runs have equal hashes.
    inverse = np.multiply.accumulate(np.full(len(runs), INVERSE))
    return scramble(runs * inverse)


@cache
def lower_case_table(size: int) -> Codes:
    """Return for each code point below `size` its lower case, or 0 if it is no letter or digit."""
    characters = map(chr, range(size))
    # [0]: the lower case of one character, "İ", has two code points.
    lowered = (ord(text.lower()[0]) if text.isalnum() else 0 for text in characters)
    return np.fromiter(lowered, dtype=np.uint32, count=size)


def hash_runs(codes: Codes, lengths: Integers) -> Hashes:
    """Return a hash of each word, whose code points are the digits of a number in base FACTOR.

    `codes` are those of all words, one after another; `lengths` has the length of each word.
    """
    if not len(lengths):
        return np.zeros(0, dtype=np.uint64)
    starts = np.cumsum(lengths) - lengths
    digits = np.arange(lengths.sum()) - np.repeat(starts, lengths)
    powers = np.multiply.accumulate(np.full(lengths.max(), FACTOR))
    return np.add.reduceat(codes * powers[digits], starts)


def scramble(values: Hashes) -> Hashes:
    """Mix the bits of 64-bit numbers as splitmix64 does."""
    # Products wrap around at 2^64, on every machine alike.
    values = values * FACTOR
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(31))
