"""Pairs as rows of tokens and labels, and their reading order."""

from collections.abc import Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from safelm.models.chat import answer_tokens, request_tokens, tag_id
from safelm.posttraining.pairs import Pair
from safelm.seeding import shuffler

# The label of a token without loss, as in PyTorch's cross_entropy.
IGNORED = -100
# Rows are sorted by length within so many batches.
WINDOW = 8


@dataclass(frozen=True)
class Row:
    """A pair as tokens; labels are the answer's tokens, after IGNORED for each of the request's."""

    tokens: list[int]
    labels: list[int]


def rows_of(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], sequence: int) -> list[Row]:
    """Tokenize pairs as rows of at most `sequence` tokens.

    Longer answers are cut off. A pair is left out if its request leaves no room for an answer, or
    if the cut would remove all tags of a tagged answer.
    """
    rows = []
    requests = request_tokens(tokenizer, [pair.request for pair in pairs]) if pairs else []
    answers = answer_tokens(tokenizer, [pair.answer for pair in pairs])
    for pair, request, answer in zip(pairs, requests, answers, strict=True):
        without_loss = [IGNORED] * len(request)
        labels = (without_loss + answer)[:sequence]
        has_answer = len(request) < sequence
        # Without its tags the answer would teach harm.
        has_lost_tags = pair.kind == "tagged" and tag_id(tokenizer) not in labels
        if has_answer and not has_lost_tags:
            tokens = (request + answer)[:sequence]
            rows.append(Row(tokens, labels))
    return rows


def order_rows(rows: Sequence[Row], *, batch: int, epochs: int, seed: int) -> list[Row]:
    """Return the rows of all epochs in reading order, with batches of about equally long rows.

    Each epoch has its own order.
    """
    ordered: list[Row] = []
    for epoch in range(epochs):
        shuffle = shuffler(seed, epoch)
        shuffled = list(rows)
        shuffle(shuffled)
        # The last batch may not be full; it stays at the end.
        full = len(shuffled) - len(shuffled) % batch
        size = batch * WINDOW
        for start in range(0, full, size):
            stop = min(start + size, full)
            window = shuffled[start:stop]
            # Without sorting by length, a third of the computation would be padding.
            window.sort(key=lambda row: len(row.tokens))
            firsts = range(0, len(window), batch)
            batches = [window[first : first + batch] for first in firsts]
            shuffle(batches)
            for members in batches:
                ordered += members
        ordered += shuffled[full:]
    return ordered
