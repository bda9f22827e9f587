"""Which candidates of a prompt stay: the rules of SafeBeam (paper §5) as pure functions over rows
of candidates.

Each row is the candidate set of one prompt. A candidate with log-probability -inf is none: it is
neither counted nor kept. Equal evidence: the less likely is dropped first; equal in both: the one
further back in its row."""


import numpy
import torch
from torch import Tensor
from torch.nn.functional import pad
from transformers import PreTrainedTokenizerBase

from safelm.decoding.decoder import Rule
from safelm.seeding import prompt_generator


def safest(evidence: Tensor, log_probability: Tensor) -> Tensor:
    """The rank of each candidate from the lowest evidence of harm up; what is no candidate ranks
    last.
    """
    absent = log_probability == -torch.inf
    by_likelihood = log_probability.argsort(dim=-1, descending=True, stable=True)
    ordered = evidence.masked_fill(absent, torch.inf).gather(-1, by_likelihood)
    order = by_likelihood.gather(-1, ordered.argsort(dim=-1, stable=True))
    return order.argsort(dim=-1)


def keep_half(evidence: Tensor, log_probability: Tensor) -> Tensor:
    """Drop the 50 % of the candidates with the highest evidence (Algorithm 2); of an odd count the
    smaller half.
    """
    candidates = log_probability > -torch.inf
    count = candidates.sum(dim=-1, keepdim=True)
    return candidates & (safest(evidence, log_probability) < count - count // 2)


def keep_below(evidence: Tensor, log_probability: Tensor, threshold: float) -> Tensor:
    """Drop every candidate whose evidence is above the threshold, but never all: the lowest stays."""
    candidates = log_probability > -torch.inf
    return candidates & ((evidence <= threshold) | (safest(evidence, log_probability) == 0))


def keep(rule: Rule, evidence: Tensor, log_probability: Tensor, threshold: float) -> Tensor:
    """Which candidates stay under a rule. For `random` the evidence is noise, for `boundary` p(tag)
    at a word's end.
    """
    if rule == "none":
        return log_probability > -torch.inf
    if rule == "absolute":
        return keep_below(evidence, log_probability, threshold)
    return keep_half(evidence, log_probability)


def best(log_probability: Tensor, beams: int) -> Tensor:
    """The places of the `beams` likeliest candidates, likeliest first; equal ones in the order of
    their row.
    """
    return log_probability.argsort(dim=-1, descending=True, stable=True)[:, :beams]


def word_ends(tokens: Tensor, length: Tensor, starts: Tensor) -> Tensor:
    """After which tokens of texts (rows, texts, steps) a word has ended: before one that opens a
    word, and the last.

    Args:
        length: tokens of each text, (rows, texts); beyond it there is nothing.
        starts: for each token of the vocabulary, whether it opens a word.
    """
    place = torch.arange(tokens.shape[-1], device=tokens.device)
    before_a_word = pad(starts[tokens[..., 1:]], (0, 1))
    return (place < length[..., None]) & (before_a_word | (place == length[..., None] - 1))


def noise(prompt: list[int], seed: int, steps: int, width: int) -> numpy.ndarray:
    """Uniform numbers in [0, 1), a row for each step, from the seed and the prompt's tokens alone."""
    return prompt_generator(seed, prompt).random((steps, width))


SPACES = (
    "Ġ",
    "Ċ",
    "ĉ",
    "č",
    "▁",
)  # how byte-level and sentencepiece vocabularies write white space at a token's front


def word_starts(tokenizer: PreTrainedTokenizerBase) -> list[bool]:
    """For each token of the vocabulary, whether it begins with white space and so opens a new word.

    Algorithm 1 splits at white space and writes the tag before it (`w1<tag> w2`), so a full stop or
    a suffix opens no word. Special tokens open none."""
    special = set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    return [
        place not in special
        and token is not None
        and (token.startswith(SPACES) or token[:1].isspace())
        for place, token in enumerate(tokens)
    ]
