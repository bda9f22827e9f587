"""Pairs as rows of tokens and labels, and the order in which they are read."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from safelm.models.chat import answer_tokens, request_tokens, tag_id
from safelm.posttraining.pairs import Pair
from safelm.seeding import shuffler

IGNORED = -100  # a label that carries no loss
WINDOW = 8  # batches within which rows are sorted by length


@dataclass(frozen=True)
class Row:
    """A pair as tokens. The labels repeat those of the answer; the request carries no loss."""

    tokens: list[int]
    labels: list[int]


def rows_of(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], sequence: int) -> list[Row]:
    """Pairs as rows of at most `sequence` tokens.

    A longer answer loses its end; a pair whose request leaves no room for an answer is left out,
    and a tagged one that would lose all of its tags, for it would teach harm untagged."""
    if not pairs:
        return []
    requests = request_tokens(tokenizer, [pair.request for pair in pairs])
    answers = answer_tokens(tokenizer, [pair.answer for pair in pairs])
    rows = [
        (pair, Row((request + answer)[:sequence], ([IGNORED] * len(request) + answer)[:sequence]))
        for pair, request, answer in zip(pairs, requests, answers, strict=True)
        if len(request) < sequence
    ]
    return [row for pair, row in rows if pair.kind != "tagged" or tag_id(tokenizer) in row.labels]


def in_order(rows: Sequence[Row], *, batch: int, epochs: int, seed: int) -> list[Row]:
    """The rows of every epoch, each in an order of its own; rows of a batch are about equally long.

    Of every eight batches the rows are sorted by length, cut into batches, and these are shuffled:
    with batches of any length a third of what is computed would be padding."""
    ordered: list[Row] = []
    for epoch in range(epochs):
        shuffle = shuffler(seed, epoch)
        shuffled = list(rows)
        shuffle(shuffled)
        ragged = (
            len(shuffled) - len(shuffled) % batch
        )  # from here on, the last batch, which is not full
        for start in range(0, ragged, batch * WINDOW):
            window = sorted(
                shuffled[start : min(start + batch * WINDOW, ragged)],
                key=lambda row: len(row.tokens),
            )
            batches = [window[at : at + batch] for at in range(0, len(window), batch)]
            shuffle(batches)
            ordered += [row for members in batches for row in members]
        ordered += shuffled[ragged:]
    return ordered
