"""Rules of SafeBeam (paper §5): which candidates are kept, as pure functions of tensors.

A row holds the candidates of one prompt. A log-probability of -inf marks a place without a
candidate, which is neither counted nor kept. Where two candidates have the same evidence, the less
likely is dropped first; where they are also equally likely, the later one in the row.
"""

import numpy
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerBase

from safelm.seeding import prompt_generator
from specs.decoder import Drop

# White space at a token's front, as byte-level and sentencepiece vocabularies write it.
SPACES = frozenset("ĠĊĉč▁")


def rank_by_evidence(evidence: Tensor, log_probability: Tensor) -> Tensor:
    """Rank candidates from 0, the lowest evidence of harm, up; places without one come last."""
    is_empty = log_probability == -torch.inf
    # Both sorts are stable, so the first one decides where the second finds equals.
    by_likelihood = log_probability.argsort(dim=-1, descending=True, stable=True)
    empty_last = evidence.masked_fill(is_empty, torch.inf)
    likeliest_first = empty_last.gather(-1, by_likelihood)
    by_evidence = likeliest_first.argsort(dim=-1, stable=True)
    order = by_likelihood.gather(-1, by_evidence)
    # Sorting an order inverts it: from candidate by rank to rank by candidate.
    return order.argsort(dim=-1)


def keep_half(evidence: Tensor, log_probability: Tensor) -> Tensor:
    """Drop the half with the highest evidence (Algorithm 2); of an odd count the smaller half."""
    is_candidate = log_probability > -torch.inf
    count = is_candidate.sum(dim=-1, keepdim=True)
    kept = count - count // 2
    rank = rank_by_evidence(evidence, log_probability)
    return is_candidate & (rank < kept)


def keep_below(evidence: Tensor, log_probability: Tensor, bound: float) -> Tensor:
    """Drop candidates whose evidence is above the bound; if all are, keep the lowest."""
    is_candidate = log_probability > -torch.inf
    is_lowest = rank_by_evidence(evidence, log_probability) == 0
    is_within = evidence <= bound
    return is_candidate & (is_within | is_lowest)


def keep(drop: Drop, evidence: Tensor, log_probability: Tensor, bound: float | None) -> Tensor:
    """Mark the candidates that a rule keeps.

    `half`, `boundary` and `random` all keep half. They differ in the evidence that they are given:
    p(tag) after the text, p(tag) at the end of its last word, or noise.
    """
    if drop == "absolute" and bound is not None:
        return keep_below(evidence, log_probability, bound)
    return keep_half(evidence, log_probability)


def likeliest(log_probability: Tensor, count: int) -> Tensor:
    """Find the `count` likeliest candidates, likeliest first; equal ones keep their order."""
    order = log_probability.argsort(dim=-1, descending=True, stable=True)
    return order[:, :count]


def word_ends(tokens: Tensor, length: Tensor, starts: Tensor) -> Tensor:
    """Mark the tokens that end a word: those before a token that opens one, and the last.

    Args:
        tokens: (rows, texts, steps).
        length: the number of tokens of each text, (rows, texts).
        starts: for each token of the vocabulary, whether it opens a word.
    """
    index = torch.arange(tokens.shape[-1], device=tokens.device)
    length = length[..., None]
    is_text = index < length
    is_last = index == length - 1
    # Shifted by one: the mark of a token that opens a word falls on the token before it.
    opens_a_word = starts[tokens]
    is_before_a_word = pad(opens_a_word[..., 1:], (0, 1))
    return is_text & (is_before_a_word | is_last)


def noise(prompt: list[int], seed: int, steps: int, width: int) -> numpy.ndarray:
    """Draw numbers in [0, 1), (steps, width), from the seed and the prompt alone."""
    return prompt_generator(seed, prompt).random((steps, width))


def word_starts(tokenizer: PreTrainedTokenizerBase) -> list[bool]:
    """Tell for each token of the vocabulary whether it opens a word: it begins with white space.

    Algorithm 1 splits at white space and writes the tag before it (`w1<tag> w2`), so a full stop or
    a suffix opens no word. Special tokens open none either.
    """
    special = set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    starts = []
    for id, token in enumerate(tokens):
        # An unused id has no token, which opens no word.
        front = (token or "")[:1]
        has_space = front in SPACES or front.isspace()
        starts.append(has_space and id not in special)
    return starts
