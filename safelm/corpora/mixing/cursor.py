"""Reading positions of a plan in its corpora, in rows, tokens and epochs."""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from safelm.corpora.mixing import MixtureError
from safelm.corpora.mixing.rows import ReadingOrder, Rows


@dataclass
class CorpusCursor:
    """A corpus, its reading order, and the position that the phases planned so far have reached."""

    rows: Rows
    order: ReadingOrder
    size: int
    position: int = 0

    def __post_init__(self) -> None:
        self._cumulative: dict[int, np.ndarray] = {}

    @property
    def epochs(self) -> float:
        """How often the corpus has been read; 0 where it has no rows."""
        return self.position / max(len(self.rows), 1)

    def tokens(self, rows: int) -> int:
        """Count the tokens of the next rows."""
        before = self._tokens_before(self.position)
        return self._tokens_before(self.position + rows) - before

    def quota(self, tokens: float) -> float:
        """Return the number of next rows that hold this many tokens, with a fraction of a row."""
        if self.rows.length:
            return tokens / self.rows.length
        target = self._tokens_before(self.position) + tokens
        epoch, rest = divmod(target, self.rows.tokens)
        row_numbers = np.arange(len(self.rows) + 1)
        cumulative = self._cumulative_tokens(int(epoch))
        # The row that the tokens reach in this epoch, linear within a row.
        within = float(np.interp(rest, cumulative, row_numbers))
        first_row = int(epoch) * len(self.rows)
        return first_row + within - self.position

    def _tokens_before(self, position: int) -> int:
        if self.rows.length:
            # Packed rows need no array of cumulative tokens, which a large corpus could not afford.
            return position * self.rows.length
        epoch, within = divmod(position, len(self.rows))
        of_epoch = int(self._cumulative_tokens(epoch)[within])
        return epoch * self.rows.tokens + of_epoch

    def _cumulative_tokens(self, epoch: int) -> np.ndarray:
        if epoch not in self._cumulative:
            # Rows of different lengths come in another order each epoch.
            order = self.order.epoch(epoch)
            lengths = self.rows.lengths[order]
            sums = np.cumsum(lengths, dtype=np.int64)
            self._cumulative[epoch] = np.concatenate([[0], sums])
        return self._cumulative[epoch]


def check_epochs(
    cursors: Mapping[str, CorpusCursor],
    max_epochs: Mapping[str, float],
    budget: int,
    slack: int,
    at: str,
) -> None:
    """Raise MixtureError if a corpus is read more often than corpora.<name>.epochs allows.

    Args:
        cursors: the final positions, by slot.
        max_epochs: the limit of each slot.
        budget: the tokens of the mixture.
        slack: the tokens that rounding may add to a budget. The tokens that the error advises
            is smaller by these.
        at: the mixture's path in params.yaml.
    """
    exceeded = [slot for slot, cursor in cursors.items() if cursor.epochs > max_epochs[slot]]
    if not exceeded:
        return
    # The worst comes last, so that it decides the limit of a corpus that several slots read.
    exceeded.sort(key=lambda slot: cursors[slot].epochs)
    readings = []
    limits = {}
    budgets = []
    for slot in exceeded:
        cursor = cursors[slot]
        readings.append(
            f"corpus {slot} {cursor.epochs:.2f} times ({cursor.position:,} rows of "
            f"{len(cursor.rows):,}; at most {max_epochs[slot]:g} allowed)"
        )
        # A corpus that replaces several is listed once, with its largest number.
        corpus = slot.rpartition("-")[2]
        # Rounded up to two digits, or the advised limit would still be exceeded.
        limits[corpus] = math.ceil(cursor.epochs * 100) / 100
        fitting = budget * max_epochs[slot] / cursor.epochs
        budgets.append(int(fitting))
    smallest = min(budgets)
    epochs = [f"corpora.{corpus}.epochs: {limit:g}" for corpus, limit in sorted(limits.items())]
    advice = [" and ".join(epochs), "a smaller weight"]
    if smallest > slack:
        advice.insert(0, f"tokens: {smallest - slack} in the budget")
    raise MixtureError(f"{at}: reads {', '.join(readings)}; write {' or '.join(advice)}")
