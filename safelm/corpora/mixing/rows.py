"""Rows: the token files of a corpus cut into training rows, and the seeded order in which these are
read.

A row is a stretch of the corpus' tokens. The model is asked for each of them, given what stands
before it in the row; the first is asked for given the token before the row, which is END where a
document begins. So each is asked for once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from safelm.seeding import generator
from specs.tokens import END, SPECIAL

END_ID = SPECIAL.index(END)
INDEX = ".index"  # DataTrove writes the ends of the documents of NAME.ds to NAME.ds.index (data/tokenization)

Layout = Literal["document", "packed"]


def width_of(vocabulary: int) -> int:
    """Bytes of a token: DataTrove stores 16 bits where the vocabulary allows it
    (utils/tokenization.py).
    """
    return 2 if vocabulary <= 1 << 16 else 4


class Tokens:
    """The tokens of a corpus: its .ds files one after another, mapped and never read as a whole."""

    def __init__(self, files: Sequence[Path], width: int) -> None:
        self.files = list(files)
        self.arrays = [_map(path, np.dtype(f"<u{width}")) for path in self.files]
        self.offsets = np.cumsum([0, *map(len, self.arrays)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def span(self, start: int, stop: int) -> np.ndarray:
        """Tokens start … stop - 1, also across files."""
        at = int(np.searchsorted(self.offsets, start, "right")) - 1
        pieces = []
        while start < stop:
            piece = self.arrays[at][start - self.offsets[at] : stop - self.offsets[at]]
            pieces.append(piece)
            start, at = start + len(piece), at + 1
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    @cached_property
    def ends(self) -> np.ndarray:
        """Where each document ends: the place behind its END."""
        indices = [np.fromfile(f"{path}{INDEX}", "<u8").astype(np.int64) for path in self.files]
        pieces = [ends + offset for ends, offset in zip(indices, self.offsets, strict=False)]
        return np.concatenate(pieces) if pieces else np.zeros(0, np.int64)


def _map(path: Path, dtype: np.dtype) -> np.ndarray:
    size = path.stat().st_size
    if size % dtype.itemsize:
        raise ValueError(
            f"{path}: expected whole tokens of {dtype.itemsize} bytes (got {size:,} bytes); tokenize again"
        )
    return np.memmap(path, dtype, "r") if size else np.zeros(0, dtype)


@dataclass(frozen=True)
class Rows:
    """Where every row of a corpus starts, and of how many tokens it is made."""

    starts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def tokens(self) -> int:
        """The tokens of all rows."""
        return self.length * len(self) or int(self.lengths.sum(dtype=np.int64))

    @property
    def length(self) -> int:
        """The length that all rows have, where they are packed; 0 where each has its own."""
        return int(self.lengths[0]) if len(self) and self.lengths.strides == (0,) else 0


def named(slot: str) -> str:
    """The name that a part has in params.yaml; behind it stands what it is replaced by, if it is."""
    return slot.partition("-")[0]


def cut(ends: np.ndarray, sequence: int, layout: Layout) -> Rows:
    """Cut a corpus, given the ends of its documents, into rows of at most `sequence` tokens.

    document: a row holds one document, or a piece of one that is too long for a row. packed: full
    rows over the documents one after another; the last tokens, too few for a row, are left unread.
    """
    total = int(ends[-1]) if len(ends) else 0
    if layout == "packed":
        starts = np.arange(total // sequence, dtype=np.int64) * sequence
        return Rows(starts, np.broadcast_to(np.int64(sequence), len(starts)))
    begins = np.concatenate([np.zeros(1, np.int64), ends[:-1]]) if len(ends) else ends
    pieces = -(-(ends - begins) // sequence)
    within = np.arange(pieces.sum()) - np.repeat(np.cumsum(pieces) - pieces, pieces)
    starts = np.repeat(begins, pieces) + sequence * within
    return Rows(starts, np.minimum(sequence, np.repeat(ends, pieces) - starts))


def hold_out(rows: Rows, most: int, seed: int, corpus: str) -> tuple[Rows, Rows]:
    """The rows that are read, and those that are kept from training to measure on: `most`, or a
    tenth of a few.
    """
    count = min(most, len(rows) // 10)
    if not count:
        return rows, Rows(rows.starts[:0], rows.lengths[:0])
    is_held = np.zeros(len(rows), np.bool_)
    is_held[generator("held out", seed, named(corpus)).choice(len(rows), count, replace=False)] = (
        True
    )
    return _some(rows, ~is_held), _some(rows, is_held)


def _some(rows: Rows, mask: np.ndarray) -> Rows:
    starts = rows.starts[mask]
    lengths = (
        np.broadcast_to(np.int64(rows.length), len(starts)) if rows.length else rows.lengths[mask]
    )
    return Rows(starts, lengths)


class Order:
    """The order in which a corpus is read: every row once an epoch, another order in each.

    Reading has places 0, 1, 2, …; place 0 of epoch 1 follows the last place of epoch 0, in whatever
    phase that is. A corpus and what it is replaced by have the same order."""

    def __init__(self, seed: int, corpus: str, rows: int) -> None:
        self.seed, self.corpus, self.count = seed, named(corpus), rows
        self._epochs: dict[int, np.ndarray] = {}

    def epoch(self, number: int) -> np.ndarray:
        """All rows, in the order of one epoch."""
        if number not in self._epochs:
            rows = np.arange(self.count, dtype=np.uint32 if self.count < 1 << 32 else np.int64)
            self._epochs[number] = generator("epoch", self.seed, self.corpus, number).permutation(
                rows
            )
        return self._epochs[number]

    def rows(self, places: np.ndarray) -> np.ndarray:
        """The rows that are read at these places."""
        epochs, within = np.divmod(places, self.count)
        found = np.empty(len(places), np.int64)
        for number in np.unique(epochs):
            chosen = epochs == number
            found[chosen] = self.epoch(int(number))[within[chosen]]
        return found
