"""SafeBeam's rules (paper §5): pure functions that say which candidates of a prompt stay.

Each row is the candidate set of one prompt. A log-probability of -inf marks a place without a
candidate: it is neither counted nor kept. Of equal evidence the less likely is dropped first; of
candidates equal in both, the one further back in its row.
"""

import numpy
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerBase

from safelm.seeding import prompt_generator
from specs.decoder import Drop

# White space at a token's front, as byte-level and sentencepiece vocabularies write it.
SPACES = ("Ġ", "Ċ", "ĉ", "č", "▁")


def rank_by_evidence(evidence: Tensor, log_probability: Tensor) -> Tensor:
    """Rank candidates from the lowest evidence of harm up; places without a candidate come last."""
    absent = log_probability == -torch.inf
    by_likelihood = log_probability.argsort(dim=-1, descending=True, stable=True)
    ordered = evidence.masked_fill(absent, torch.inf).gather(-1, by_likelihood)
    order = by_likelihood.gather(-1, ordered.argsort(dim=-1, stable=True))
    return order.argsort(dim=-1)


def keep_half(evidence: Tensor, log_probability: Tensor) -> Tensor:
    """Drop the half with the highest evidence (Algorithm 2); of an odd count the smaller half."""
    candidates = log_probability > -torch.inf
    count = candidates.sum(dim=-1, keepdim=True)
    return candidates & (rank_by_evidence(evidence, log_probability) < count - count // 2)


def keep_below(evidence: Tensor, log_probability: Tensor, bound: float) -> Tensor:
    """Drop every candidate whose evidence is above the bound, but never all: the lowest stays."""
    candidates = log_probability > -torch.inf
    lowest = rank_by_evidence(evidence, log_probability) == 0
    return candidates & ((evidence <= bound) | lowest)


def keep(drop: Drop, evidence: Tensor, log_probability: Tensor, bound: float | None) -> Tensor:
    """Say which candidates stay.

    The evidence is noise for drop: random, and p(tag) at the last word's end for boundary.
    """
    if drop == "absolute" and bound is not None:
        return keep_below(evidence, log_probability, bound)
    return keep_half(evidence, log_probability)


def likeliest(log_probability: Tensor, count: int) -> Tensor:
    """Find the `count` likeliest candidates, likeliest first; equal ones keep their order."""
    return log_probability.argsort(dim=-1, descending=True, stable=True)[:, :count]


def word_ends(tokens: Tensor, length: Tensor, starts: Tensor) -> Tensor:
    """Mark the tokens of texts (rows, texts, steps) after which a word has ended.

    These are the tokens before one that opens a word, and the last.

    Args:
        length: tokens of each text, (rows, texts); beyond it there is nothing.
        starts: for each token of the vocabulary, whether it opens a word.
    """
    place = torch.arange(tokens.shape[-1], device=tokens.device)
    is_last = place == length[..., None] - 1
    before_a_word = pad(starts[tokens[..., 1:]], (0, 1))
    return (place < length[..., None]) & (before_a_word | is_last)


def noise(prompt: list[int], seed: int, steps: int, width: int) -> numpy.ndarray:
    """Draw numbers in [0, 1), (steps, width), from the seed and the prompt alone."""
    return prompt_generator(seed, prompt).random((steps, width))


def word_starts(tokenizer: PreTrainedTokenizerBase) -> list[bool]:
    """Say for each token of the vocabulary whether it begins with white space: it opens a word.

    Algorithm 1 splits at white space and writes the tag before it (`w1<tag> w2`), so a full stop or
    a suffix opens no word. Special tokens open none.
    """
    special = set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    starts = [bool(token) and (token.startswith(SPACES) or token[0].isspace()) for token in tokens]
    return [start and id not in special for id, start in enumerate(starts)]
