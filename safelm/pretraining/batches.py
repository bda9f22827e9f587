"""Training batches: the rows of a plan in Nanotron's format, from any step on."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from safelm.corpora.mixing.plan import Plan, PlannedPhase
from safelm.corpora.mixing.rows import END_ID, Layout, Tokens, part_name
from safelm.seeding import generator

Batch = dict[str, torch.Tensor]


def phase_order(seed: int, number: int, phase: PlannedPhase) -> np.ndarray:
    """Return the shuffled row numbers of a phase, which count the rows of its parts in turn."""
    # Rows are sorted by random numbers of (model seed, phase, part). If a corpus is replaced by its
    # twin, all other rows keep their order.
    draws = []
    for part in phase.parts:
        # One draw per part: parts before it must not shift the numbers of this one.
        draw = generator("rows", seed, number, part_name(part.corpus))
        draws.append(draw.random(part.rows))
    return np.argsort(np.concatenate(draws), kind="stable")


@dataclass
class Batches:
    """Micro-batches of a plan, shuffled within each phase by (model seed, phase).

    A global batch has the same rows in the same order for any micro-batch and number of ranks; each
    rank takes its slice. There is no padding.

    Attributes:
        read_counts: rows and tokens read so far, shape (phases, parts, 2).
    """

    plan: Plan
    folder: Path
    seed: int
    micro_batch: int
    rank: int = 0
    ranks: int = 1
    start: int = 0

    def __post_init__(self) -> None:
        plan = self.plan
        if plan.batch % (self.micro_batch * self.ranks):
            raise ValueError(
                f"batch {plan.batch} does not divide into {self.ranks} ranks of micro-batches of "
                f"{self.micro_batch} rows; write another batch size, or another micro_batch in "
                "the shape"
            )
        self.corpora = {
            name: plan.open_corpus(self.folder, name)
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
                # A phase that begins after the first step of this run is read from its own start.
                start = max(self.start - before, 0)
                yield from self._phase(number, phase, start)
            before += phase.steps

    def _phase(self, number: int, phase: PlannedPhase, start: int) -> Iterator[Batch]:
        order = phase_order(self.seed, number, phase)
        rank_rows = self.plan.batch // self.ranks
        for step in range(start, phase.steps):
            first = step * self.plan.batch + self.rank * rank_rows
            for begin in range(first, first + rank_rows, self.micro_batch):
                chosen = order[begin : begin + self.micro_batch]
                rows = self._read_rows(number, phase, chosen)
                yield collate(rows, self.plan.layout)

    def _read_rows(self, number: int, phase: PlannedPhase, chosen: np.ndarray) -> list[np.ndarray]:
        """Read the rows with the chosen numbers, in their order, and count them."""
        ends = np.cumsum([part.rows for part in phase.parts])
        # "right", because a row whose number equals an end belongs to the next part.
        part_numbers = np.searchsorted(ends, chosen, "right")
        rows: list[np.ndarray] = [np.empty(0)] * len(chosen)
        # One part at a time, because the reading order maps many positions at once.
        for index in np.unique(part_numbers):
            part = phase.parts[index]
            tokens, corpus_rows, order = self.corpora[part.corpus]
            places = np.flatnonzero(part_numbers == index)
            first = ends[index] - part.rows
            within_part = chosen[places] - first
            row_numbers = order.rows(within_part + part.first)
            spans = corpus_rows.spans(row_numbers)
            for place, span in zip(places, spans, strict=True):
                rows[place] = read_row(tokens, *span)
            # Without the token before each row, which is read but not predicted.
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
    """Make a batch: packed rows side by side, or documents one after another in a single line.

    Returns:
        input_ids, label_ids and label_mask of shape (lines, positions), and input_mask of shape
        (rows, longest row).
    """
    # Nanotron bounds attention by the lengths in input_mask (models/llama.py:195-205), and rotary
    # positions are relative. So one line of documents gives the same as a padded row for each.
    lines = len(rows) if layout == "packed" else 1
    # A row begins with the token before it, so it has one position fewer than tokens.
    lengths = np.array([len(row) - 1 for row in rows])
    positions = np.arange(lengths.max())
    input_mask = positions < lengths[:, None]
    label_ids = _stack([row[1:] for row in rows], lines)
    return {
        "input_ids": _stack([row[:-1] for row in rows], lines),
        "input_mask": torch.from_numpy(input_mask),
        "label_ids": label_ids,
        # The tag carries loss, too: SafeBeam reads p(tag) (paper §5).
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
