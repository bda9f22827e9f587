"""Batches: the rows of a plan as Nanotron takes them, in an order of the model's own, from any step
on.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from safelm.corpora.mixing.plan import Plan, PlannedPhase
from safelm.corpora.mixing.rows import END_ID, Layout, Tokens, part_name
from safelm.seeding import generator


def interleaved(seed: int, number: int, phase: PlannedPhase) -> np.ndarray:
    """The order of a phase's rows, those of its parts counted one part after another.

    Every row draws a number of its own, by (model seed, phase, corpus, place), and these are
    sorted: if one corpus is changed for another, all other rows stay in the same order (twin
    corpora)."""
    draws = [
        generator("rows", seed, number, part_name(part.corpus)).random(part.rows)
        for part in phase.parts
    ]
    return np.argsort(np.concatenate(draws), kind="stable")


class Batches:
    """Micro batches of a plan; rows are shuffled within their phase, seeded by (model seed, phase).

    A global batch is the same rows in the same order whatever the micro batch and the number of
    ranks; a rank takes its slice of it. Every token of a row carries loss, the tag too (paper §4:
    SafeBeam reads p(tag)); there is no padding."""

    def __init__(
        self,
        plan: Plan,
        folder: Path,
        seed: int,
        *,
        micro_batch: int,
        rank: int = 0,
        ranks: int = 1,
        start: int = 0,
    ) -> None:
        if plan.batch % (micro_batch * ranks):
            raise ValueError(
                f"batch {plan.batch} does not divide into {ranks} ranks of micro batches of {micro_batch} rows; "
                "write another mix.batch_size, or another micro_batch in the shape"
            )
        self.plan, self.seed, self.micro_batch = plan, seed, micro_batch
        self.rank, self.ranks, self.start = rank, ranks, start
        self.stocks = {
            name: plan.open_corpus(folder, name)
            for name, corpus in plan.corpora.items()
            if corpus.read_rows
        }
        parts = max(len(phase.parts) for phase in plan.phases)
        self.given = np.zeros(
            (len(plan.phases), parts, 2), np.int64
        )  # rows and tokens so far, by phase and part

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        """Every micro batch of this rank, from step `start` on."""
        before = 0
        for number, phase in enumerate(self.plan.phases):
            if self.start < before + phase.steps:
                yield from self._phase(number, phase, max(self.start - before, 0))
            before += phase.steps

    def _phase(
        self, number: int, phase: PlannedPhase, start: int
    ) -> Iterator[dict[str, torch.Tensor]]:
        order = interleaved(self.seed, number, phase)
        bounds = np.cumsum([part.rows for part in phase.parts])
        own = self.plan.batch // self.ranks
        for step in range(start, phase.steps):
            first = step * self.plan.batch + self.rank * own
            for at in range(first, first + own, self.micro_batch):
                rows = self._rows(number, phase, bounds, order[at : at + self.micro_batch])
                yield collate(rows, self.plan.layout)

    def _rows(
        self, number: int, phase: PlannedPhase, bounds: np.ndarray, chosen: np.ndarray
    ) -> list[np.ndarray]:
        parts = np.searchsorted(bounds, chosen, "right")
        rows: list[np.ndarray] = [np.empty(0)] * len(chosen)
        for index in np.unique(parts):
            part = phase.parts[index]
            tokens, cut, order = self.stocks[part.corpus]
            slots = np.flatnonzero(parts == index)
            found = order.rows(chosen[slots] - (bounds[index] - part.rows) + part.first)
            for slot, start, length in zip(
                slots, cut.starts[found], cut.lengths[found], strict=True
            ):
                rows[slot] = read_row(tokens, int(start), int(start + length))
            self.given[number, index] += len(slots), cut.lengths[found].sum()
        return rows


def read_row(tokens: Tokens, start: int, stop: int) -> np.ndarray:
    """A row with the token before it."""
    if start:
        return tokens.span(start - 1, stop)
    return np.concatenate([[END_ID], tokens.span(0, stop)])


def collate(rows: list[np.ndarray], layout: Layout) -> dict[str, torch.Tensor]:
    """Packed rows lie side by side; documents lie one after another in a single line, and see
    themselves alone.

    Nanotron takes the bounds of attention from the lengths in input_mask (models/llama.py:195-205),
    and rotary positions are relative: a line of documents computes what a padded row for each
    would, without the padding."""
    lines = len(rows) if layout == "packed" else 1
    inputs = np.concatenate([row[:-1] for row in rows]).astype(np.int64).reshape(lines, -1)
    labels = np.concatenate([row[1:] for row in rows]).astype(np.int64).reshape(lines, -1)
    lengths = np.array([len(row) - 1 for row in rows])
    return {
        "input_ids": torch.from_numpy(inputs),
        "input_mask": torch.from_numpy(np.arange(lengths.max()) < lengths[:, None]),
        "label_ids": torch.from_numpy(labels),
        "label_mask": torch.ones(labels.shape, dtype=torch.bool),
    }


def held_batches(
    plan: Plan, folder: Path, corpus: str, micro_batch: int
) -> Iterator[dict[str, torch.Tensor]]:
    """The rows of a corpus that no training reads, in micro batches; the last one may be smaller."""
    tokens, rows = plan.open_held_out(folder, corpus)
    spans = [
        (int(start), int(start + length))
        for start, length in zip(rows.starts, rows.lengths, strict=True)
    ]
    for at in range(0, len(spans), micro_batch):
        yield collate(
            [read_row(tokens, *span) for span in spans[at : at + micro_batch]], plan.layout
        )
