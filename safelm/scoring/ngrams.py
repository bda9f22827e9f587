"""Hashed word n-grams, and a linear classifier of scores 0-5 over them: the scorer that needs no pretrained model.

Hashing is crc32 of a word and fixed 64-bit arithmetic, never hash(). Everything works on many texts at once with numpy,
and a text's grade does not depend on the texts beside it.
"""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self
from zlib import crc32

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from safelm.hazards import Grade

WORD = re.compile(r"[^\W_]+")
FACTOR = np.uint64(0x9E3779B97F4A7C15)  # splitmix64 (Steele, Lea and Flood 2014)
BATCH = 512
FORMAT = 1
CONFIG, WEIGHTS = "config.json", "weights.safetensors"

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]


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


def count(texts: Sequence[str], orders: Sequence[int], buckets: int) -> Counts:
    """Count the n-grams of any number of texts. Words are runs of letters and digits, in lower case."""
    batches = [(start, texts[start : start + BATCH]) for start in range(0, len(texts), BATCH)]
    keys = [_count(batch, orders, buckets, start * buckets) for start, batch in batches]
    nothing = np.zeros(0, dtype=np.int64)
    unique, counts = (np.concatenate([nothing, *(pair[side] for pair in keys)]) for side in (0, 1))
    return Counts(len(texts), unique // buckets, unique % buckets, counts)


def _count(texts: Sequence[str], orders: Sequence[int], buckets: int, first: int) -> tuple[Integers, Integers]:
    words = [WORD.findall(text.lower()) for text in texts]
    codes = {word: crc32(word.encode("utf-8", "surrogatepass")) for word in set().union(*words)}
    sequence = np.array([codes[word] for text in words for word in text], dtype=np.uint64)
    rows = np.repeat(np.arange(len(texts)), [len(text) for text in words])
    keys = np.concatenate([_keys(sequence, rows, order, buckets) for order in orders])
    unique, counts = np.unique(keys, return_counts=True)
    return unique + first, counts


def _keys(sequence: NDArray[np.uint64], rows: Integers, order: int, buckets: int) -> Integers:
    """text x buckets + bucket, for each n-gram of one order that lies within one text."""
    places = len(sequence) - order + 1
    if places <= 0:
        return np.zeros(0, dtype=np.int64)
    whole = np.flatnonzero(rows[:places] == rows[order - 1 :])
    mixed = np.full(len(whole), order, dtype=np.uint64)
    for offset in range(order):
        mixed = _scramble(mixed + sequence[whole + offset])
    return rows[whole] * buckets + (mixed % np.uint64(buckets)).astype(np.int64)


def _scramble(values: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of splitmix64; unsigned 64-bit numbers wrap around on every machine alike."""
    values = values * FACTOR
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    return values ^ (values >> np.uint64(31))


@dataclass(frozen=True)
class NgramScorer:
    """A fitted classifier: `scores` are the classes it knows; `columns`, sorted, the buckets it saw in training.

    What it never saw adds nothing to a class but to the length of the text, so a text of another kind falls back on
    the bias. Without columns it is a constant predictor.
    """

    orders: tuple[int, ...]
    buckets: int
    scores: tuple[int, ...]
    columns: NDArray[np.int32]
    idf: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def grade(self, texts: Sequence[str]) -> list[Grade]:
        """The most probable score of each text."""
        return [Grade(score, "n-grams", None) for score in self.predict(texts)]

    def predict(self, texts: Sequence[str]) -> list[int]:
        """The most probable score of each text; of equals, the higher."""
        known = np.array(self.scores)
        return [int(known[len(known) - 1 - row[::-1].argmax()]) for row in self._logits(texts)]

    def unsafe(self, texts: Sequence[str]) -> Floats:
        """The probability of a score above 0, for each text."""
        logits = self._logits(texts)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        return powers[:, np.array(self.scores) > 0].sum(axis=1) / powers.sum(axis=1)

    def _logits(self, texts: Sequence[str]) -> Floats:
        """bincount adds in the order of the entries, so a text's sum does not depend on its neighbours."""
        if not len(self.columns):
            return np.tile(self.bias.astype(np.float64), (len(texts), 1))
        counts = count(texts, self.orders, self.buckets)
        places = np.searchsorted(self.columns, counts.buckets).clip(max=len(self.columns) - 1)
        seen = self.columns[places] == counts.buckets
        idf = np.where(seen, self.idf[places], self.idf.max()).astype(np.float64)
        values = counts.weights(idf) * seen
        sums = [np.bincount(counts.rows, values * column[places], len(texts)) for column in self.weights.T]
        return np.stack(sums, axis=1).astype(np.float64) + self.bias

    def save(self, folder: Path) -> None:
        """config.json and weights.safetensors; equal scorers give equal bytes."""
        folder.mkdir(parents=True, exist_ok=True)
        config = {"format": FORMAT, "orders": self.orders, "buckets": self.buckets, "scores": self.scores}
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        names = ("columns", "idf", "weights", "bias")
        (folder / WEIGHTS).write_bytes(save({name: np.ascontiguousarray(getattr(self, name)) for name in names}))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `save` wrote."""
        try:
            config = json.loads((folder / CONFIG).read_bytes())
            tensors = load_file(folder / WEIGHTS)
        except FileNotFoundError as error:
            raise FileNotFoundError(f"{folder}: has no fitted scorer; run `dvc repro fit`") from error
        if config["format"] != FORMAT:
            raise ValueError(
                f"{folder / CONFIG}: expected format {FORMAT} (got {config['format']}); run `dvc repro fit`"
            )
        return cls(tuple(config["orders"]), config["buckets"], tuple(config["scores"]), **tensors)
