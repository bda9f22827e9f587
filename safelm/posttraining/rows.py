"""Pairs as rows of tokens and labels, and their reading order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from transformers import PreTrainedTokenizerBase

from safelm.models.chat import (
    answer_tokens,
    dialogue_texts,
    request_tokens,
    tag_id,
    tokenize,
)
from safelm.posttraining.pairs import Pair
from safelm.seeding import shuffler
from specs.tokens import IM_END

# The label of a token without loss, as in PyTorch's cross_entropy.
IGNORED = -100
# Rows are sorted by length within so many batches.
WINDOW = 8


@dataclass(frozen=True)
class Row:
    """A dialogue as tokens; labels are those of answers, and IGNORED for those of requests."""

    tokens: list[int]
    labels: list[int]


def rows_of(tokenizer: PreTrainedTokenizerBase, pairs: Sequence[Pair], sequence: int) -> list[Row]:
    """Tokenize dialogues as rows of at most `sequence` tokens.

    Longer ones are cut off. A pair is left out if its request leaves no room for an answer, or
    if the cut would remove all tags of a tagged answer.
    """
    rows = []
    requests = request_tokens(tokenizer, [pair.request for pair in pairs]) if pairs else []
    answers = answer_tokens(tokenizer, [pair.answer for pair in pairs])
    for pair, request, answer in zip(pairs, requests, answers, strict=True):
        tokens, labels = request + answer, [IGNORED] * len(request) + answer
        for later_request, later_answer in _later(tokenizer, pair):
            tokens += later_request + later_answer
            labels += [IGNORED] * len(later_request) + later_answer
        has_answer = len(request) < sequence
        # Without its tags the answer would teach harm.
        has_lost_tags = pair.kind == "tagged" and tag_id(tokenizer) not in labels[:sequence]
        if has_answer and not has_lost_tags:
            rows.append(Row(tokens[:sequence], labels[:sequence]))
    return rows


def _later(tokenizer: PreTrainedTokenizerBase, pair: Pair) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the tokens of each later request, as the template writes it, and of its answer.

    A template that then writes earlier turns in another way ends the dialogue.
    """
    if not pair.later:
        return
    turns = [{"role": "user", "content": pair.request}]
    begun, answer = dialogue_texts(tokenizer, [turns])[0], pair.answer
    for later_request, later_answer in pair.later:
        turns.append({"role": "assistant", "content": answer})
        turns.append({"role": "user", "content": later_request})
        text = dialogue_texts(tokenizer, [turns])[0]
        before = f"{begun}{answer}{IM_END}"
        if not text.startswith(before):
            return
        yield (
            tokenize(tokenizer, [text.removeprefix(before)])[0],
            answer_tokens(tokenizer, [later_answer])[0],
        )
        begun, answer = text, later_answer


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
