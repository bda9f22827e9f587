"""Training rows: the token files of a corpus cut into rows, and the seeded order of reading them.

A row is a span of a corpus's tokens. Each token is predicted from those before it in the row, and
the first from the token before the row, which is END where a document begins. So every token is
predicted exactly once.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np

from safelm.seeding import generator
from specs.tokens import END, SPECIAL

END_ID = SPECIAL.index(END)
# DataTrove writes the ends of the documents of NAME.ds to NAME.ds.index (data/tokenization).
INDEX = ".index"

Layout = Literal["document", "packed"]


def part_name(slot: str) -> str:
    """Return the name of a part in params.yaml, without the corpus that replaces it, if any."""
    # A slot is <part>, or <part>-<corpus that replaces it> (specs/mixture.py).
    return slot.partition("-")[0]


class Tokens:
    """The tokens of a corpus: its .ds files one after another, memory-mapped."""

    def __init__(self, files: Sequence[Path], width: int) -> None:
        self.files = list(files)
        # Little-endian on every machine, as DataTrove writes them.
        dtype = np.dtype(f"<u{width}")
        self.arrays = [_map_file(path, dtype) for path in self.files]
        self.offsets = np.cumsum([0, *map(len, self.arrays)], dtype=np.int64)

    def __len__(self) -> int:
        return int(self.offsets[-1])

    def span(self, start: int, stop: int) -> np.ndarray:
        """Return tokens start … stop - 1, across files where needed."""
        # The last file that begins at or before `start`: empty files before it are passed over.
        number = int(np.searchsorted(self.offsets, start, "right")) - 1
        pieces = []
        while start < stop:
            offset = self.offsets[number]
            piece = self.arrays[number][start - offset : stop - offset]
            pieces.append(piece)
            start += len(piece)
            number += 1
        # A row within one file, as almost all are, is not copied.
        return pieces[0] if len(pieces) == 1 else np.concatenate(pieces)

    @cached_property
    def ends(self) -> np.ndarray:
        """The end of each document: the position after its END."""
        # Not empty, because nothing cannot be concatenated.
        ends = [np.zeros(0, np.int64)]
        # `offsets` has one entry more, the end of the last file.
        for path, offset in zip(self.files, self.offsets, strict=False):
            # Converted, because numpy adds int64 to uint64 as floats.
            within_file = np.fromfile(f"{path}{INDEX}", "<u8").astype(np.int64)
            ends.append(within_file + offset)
        return np.concatenate(ends)

    @cached_property
    def begins(self) -> np.ndarray:
        """The first position of each document."""
        return _begins_of(self.ends)


def _begins_of(ends: np.ndarray) -> np.ndarray:
    """The position where each document begins: the end of the one before."""
    begins = np.zeros_like(ends)
    begins[1:] = ends[:-1]
    return begins


def _map_file(path: Path, dtype: np.dtype) -> np.ndarray:
    size = path.stat().st_size
    if size % dtype.itemsize:
        raise ValueError(
            f"{path}: expected whole tokens of {dtype.itemsize} bytes (got {size:,} bytes); "
            "tokenize again"
        )
    # An empty file cannot be mapped.
    return np.memmap(path, dtype, "r") if size else np.zeros(0, dtype)


@dataclass(frozen=True)
class Rows:
    """The first position and the length, in tokens, of every row of a corpus."""

    starts: np.ndarray
    lengths: np.ndarray

    def __len__(self) -> int:
        return len(self.starts)

    @cached_property
    def tokens(self) -> int:
        """The number of tokens in all rows."""
        return int(self.lengths.sum(dtype=np.int64))

    @property
    def length(self) -> int:
        """The common length of packed rows; 0 where each row has its own."""
        # Packed rows broadcast one number, which takes no memory and has a stride of 0.
        is_packed = len(self) > 0 and self.lengths.strides == (0,)
        return int(self.lengths[0]) if is_packed else 0

    def spans(self, numbers: np.ndarray | slice = slice(None)) -> list[tuple[int, int]]:
        """Return (start, stop), the bounds of each of the rows with these numbers."""
        starts = self.starts[numbers]
        stops = starts + self.lengths[numbers]
        return list(zip(starts.tolist(), stops.tolist(), strict=True))

    def select(self, mask: np.ndarray) -> "Rows":
        """Return the rows where `mask` is true."""
        starts = self.starts[mask]
        if self.length:
            return packed_rows(starts, self.length)
        return Rows(starts, self.lengths[mask])


def packed_rows(starts: np.ndarray, length: int) -> Rows:
    """Make rows of one length."""
    return Rows(starts, np.broadcast_to(np.int64(length), len(starts)))


def cut_rows(ends: np.ndarray, sequence: int, layout: Layout) -> Rows:
    """Cut a corpus into rows of at most `sequence` tokens.

    Args:
        ends: the end of each document, in tokens.
        sequence: the most tokens of a row.
        layout: "document" puts one document, or a piece of a longer one, into each row. "packed"
            fills rows across documents and drops the last tokens, which are too few for a row.
    """
    if layout == "packed":
        total = int(ends[-1]) if len(ends) else 0
        numbers = np.arange(total // sequence, dtype=np.int64)
        return packed_rows(numbers * sequence, sequence)
    begins = _begins_of(ends)
    # Rounded up, as a division of the negative number rounds down.
    pieces = -((begins - ends) // sequence)
    first_rows = np.cumsum(pieces) - pieces
    # The number of each piece within its document. In place: each array has an entry for every row.
    piece_numbers = np.arange(pieces.sum())
    piece_numbers -= np.repeat(first_rows, pieces)
    starts = np.repeat(begins, pieces) + sequence * piece_numbers
    lengths = np.repeat(ends, pieces) - starts
    # Only the last piece of a document is shorter.
    lengths = np.minimum(sequence, lengths)
    return Rows(starts, lengths)


def hold_out(rows: Rows, max_rows: int, seed: int, corpus: str) -> tuple[Rows, Rows]:
    """Split rows into those to train on and those to measure the loss on.

    `max_rows` rows are held out, but at most a tenth of the corpus.
    """
    count = min(max_rows, len(rows) // 10)
    is_held = np.zeros(len(rows), np.bool_)
    if count:
        # Drawn by the part's name, so that twin mixtures hold out the same rows.
        draw = generator("held out", seed, part_name(corpus))
        drawn = draw.choice(len(rows), count, replace=False)
        is_held[drawn] = True
    return rows.select(~is_held), rows.select(is_held)


class ReadingOrder:
    """The order of reading a corpus: every row once per epoch, in another order each epoch.

    Positions count 0, 1, 2, … across epochs and phases.
    """

    def __init__(self, seed: int, corpus: str, rows: int) -> None:
        self.seed = seed
        self.corpus = part_name(corpus)
        self.count = rows
        self._epochs: dict[int, np.ndarray] = {}

    def epoch(self, number: int) -> np.ndarray:
        """Return all rows in the order of one epoch."""
        if number not in self._epochs:
            # Half the memory of int64 for all but the largest corpora.
            dtype = np.uint32 if self.count < 1 << 32 else np.int64
            in_order = np.arange(self.count, dtype=dtype)
            # Drawn by the part's name: a replacement is read in the order of what it replaces.
            draw = generator("epoch", self.seed, self.corpus, number)
            self._epochs[number] = draw.permutation(in_order)
        return self._epochs[number]

    def rows(self, positions: np.ndarray) -> np.ndarray:
        """Return the rows at these positions."""
        epochs, within = np.divmod(positions, self.count)
        rows = np.empty(len(positions), np.int64)
        for number in np.unique(epochs):
            is_in_epoch = epochs == number
            order = self.epoch(int(number))
            rows[is_in_epoch] = order[within[is_in_epoch]]
        return rows
