"""Training batches: the rows of a plan as Nanotron takes them, from any step on."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from safelm.corpora.mixing.plan import Plan, PlannedPhase
from safelm.corpora.mixing.rows import END_ID, Layout, Tokens, part_name
from safelm.seeding import generator

Batch = dict[str, torch.Tensor]


def phase_order(seed: int, number: int, phase: PlannedPhase) -> np.ndarray:
    """Return the shuffled row numbers of a phase, which count the rows of its parts in turn.

    Each row gets a random number by (model seed, phase, corpus), and rows are sorted by it. So if a
    corpus is replaced by another, all other rows keep their order (twin corpora).
    """
    draws = []
    for part in phase.parts:
        # One draw per part: parts before it must not shift the numbers of this one.
        draw = generator("rows", seed, number, part_name(part.corpus))
        draws.append(draw.random(part.rows))
    return np.argsort(np.concatenate(draws), kind="stable")


class Batches:
    """Micro-batches of a plan, shuffled within each phase by (model seed, phase).

    A global batch has the same rows in the same order for any micro-batch and number of ranks; each
    rank takes its slice. Every token of a row carries loss, the tag too (paper §4: SafeBeam reads
    p(tag)), and there is no padding.

    Attributes:
        read_counts: rows and tokens read so far, shape (phases, parts, 2).
    """

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
                f"batch {plan.batch} does not divide into {ranks} ranks of micro-batches of "
                f"{micro_batch} rows; write another mix.batch_size, or another micro_batch in the "
                "shape"
            )
        self.plan = plan
        self.seed = seed
        self.micro_batch = micro_batch
        self.rank = rank
        self.ranks = ranks
        self.start = start
        self.corpora = {
            name: plan.open_corpus(folder, name)
            for name, corpus in plan.corpora.items()
            if corpus.read_rows
        }
        max_parts = max(len(phase.parts) for phase in plan.phases)
        self.read_counts = np.zeros((len(plan.phases), max_parts, 2), np.int64)

    def __iter__(self) -> Iterator[Batch]:
        """Yield every micro-batch of this rank, from step `start` on."""
        before = 0
        for number, phase in enumerate(self.plan.phases):
            if self.start < before + phase.steps:
                yield from self._phase(number, phase, max(self.start - before, 0))
            before += phase.steps

    def _phase(self, number: int, phase: PlannedPhase, start: int) -> Iterator[Batch]:
        order = phase_order(self.seed, number, phase)
        rank_rows = self.plan.batch // self.ranks
        for step in range(start, phase.steps):
            first = step * self.plan.batch + self.rank * rank_rows
            for begin in range(first, first + rank_rows, self.micro_batch):
                rows = self._read_rows(number, phase, order[begin : begin + self.micro_batch])
                yield collate(rows, self.plan.layout)

    def _read_rows(self, number: int, phase: PlannedPhase, chosen: np.ndarray) -> list[np.ndarray]:
        """Read the rows with the chosen numbers, in their order, and count them."""
        ends = np.cumsum([part.rows for part in phase.parts])
        part_numbers = np.searchsorted(ends, chosen, "right")
        rows: list[np.ndarray] = [np.empty(0)] * len(chosen)
        for index in np.unique(part_numbers):
            part = phase.parts[index]
            tokens, corpus_rows, order = self.corpora[part.corpus]
            slots = np.flatnonzero(part_numbers == index)
            within_part = chosen[slots] - (ends[index] - part.rows)
            spans = corpus_rows.spans(order.rows(within_part + part.first))
            for slot, span in zip(slots, spans, strict=True):
                rows[slot] = read_row(tokens, *span)
            token_count = sum(stop - start for start, stop in spans)
            self.read_counts[number, index] += len(spans), token_count
        return rows


def read_row(tokens: Tokens, start: int, stop: int) -> np.ndarray:
    """Read a row together with the token before it."""
    if start:
        return tokens.span(start - 1, stop)
    # The corpus begins with a document, and END comes before every document.
    return np.concatenate([[END_ID], tokens.span(0, stop)])


def collate(rows: list[np.ndarray], layout: Layout) -> Batch:
    """Make a batch of rows: packed rows side by side, documents one after another in a single line.

    Nanotron takes the bounds of attention from the lengths in input_mask (models/llama.py:195-205),
    and rotary positions are relative. So a line of documents computes what a padded row for each
    would, without the padding.

    Returns:
        input_ids, label_ids and label_mask of shape (lines, positions), and input_mask of shape
        (rows, longest row).
    """
    lines = len(rows) if layout == "packed" else 1
    lengths = np.array([len(row) - 1 for row in rows])
    input_mask = np.arange(lengths.max()) < lengths[:, None]
    label_ids = _stack([row[1:] for row in rows], lines)
    return {
        "input_ids": _stack([row[:-1] for row in rows], lines),
        "input_mask": torch.from_numpy(input_mask),
        "label_ids": label_ids,
        "label_mask": torch.ones_like(label_ids, dtype=torch.bool),
    }


def _stack(rows: list[np.ndarray], lines: int) -> torch.Tensor:
    tokens = np.concatenate(rows).astype(np.int64)
    return torch.from_numpy(tokens.reshape(lines, -1))


def held_out_batches(plan: Plan, folder: Path, corpus: str, micro_batch: int) -> Iterator[Batch]:
    """Yield the held-out rows of a corpus in micro-batches; the last one may be smaller."""
    tokens, held_out = plan.open_held_out(folder, corpus)
    rows = [read_row(tokens, *span) for span in held_out.spans()]
    for begin in range(0, len(rows), micro_batch):
        yield collate(rows[begin : begin + micro_batch], plan.layout)
