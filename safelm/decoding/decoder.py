"""What a decoder is, and what it gives back."""

import warnings
from dataclasses import dataclass
from typing import Literal

from specs.decoder import LOOKS_AHEAD, contradiction

Method = Literal["greedy", "beam", "top_k", "safebeam", "branch"]
Rule = Literal["none", "half", "boundary", "absolute", "random"]


@dataclass(frozen=True)
class Decoder:
    """How the next token is chosen; the same values as a row of `evaluate.decoders`
    (specs/decoder.py), and a seed.

    greedy is one beam of one candidate, beam keeps the `beams` likeliest texts, top_k draws one of
    the `top_k` likeliest tokens. safebeam (paper §5, Algorithm 2) is a beam search that tries
    `candidates` tokens per beam and first drops those that `rule` names; rule none drops nothing
    and leaves a beam search. branch (branches.py) writes `beams` whole texts that begin differently
    and chooses among them.

    With two candidates a beam, dropping half leaves as many as there are beams: nothing is left for
    likelihood to choose. That is allowed, and warned about."""

    method: Method
    beams: int = 1
    candidates: int = 1
    rule: Rule = "none"
    threshold: float = 0.0
    weight: float = 0.0
    floor: float = 0.0
    short_circuit: bool = False
    top_k: int = 1
    temperature: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        """Refuse values that contradict the method."""
        if min(self.beams, self.candidates, self.top_k) < 1 or self.temperature <= 0:
            raise ValueError(
                f"decoder: beams, candidates and top_k start at 1, temperature is above 0 (got {self})"
            )
        if found := contradiction(self):
            raise ValueError(f"decoder: {found}")
        if self.rule in ("half", "boundary", "random") and self.candidates < 3:
            warnings.warn(
                f"safebeam with {self.candidates} candidates a beam: once half are dropped no more are left than "
                "there are beams, so their likelihood chooses nothing; three is the least that does",
                stacklevel=3,
            )

    @property
    def width(self) -> int:
        """Candidates a beam: greedy and top_k settle on one token before anything is compared."""
        return 1 if self.method in ("greedy", "top_k") else self.candidates

    @property
    def looks_ahead(self) -> bool:
        """Whether p(tag) after a candidate has a say in whether it is chosen."""
        return self.rule in LOOKS_AHEAD

    @property
    def needs_tag(self) -> bool:
        """Whether a model that knows no tag cannot be decoded so."""
        return self.looks_ahead or self.short_circuit or self.weight > 0

    @property
    def needs_words(self) -> bool:
        """Whether it must be known where words begin, for p(tag) is compared there alone."""
        return self.rule == "boundary" or (self.method == "branch" and self.needs_tag)

    @property
    def is_random(self) -> bool:
        """Whether the seed matters."""
        return self.method == "top_k" or self.rule == "random"


@dataclass(frozen=True)
class Decoded:
    """What a decoder wrote after one prompt.

    tokens holds neither the token that ended the text nor the tag; a text that was refused once it
    was written (branch) is not given. log_probability is of everything that was chosen, the ending
    token or the tag included. tag_probabilities has p(tag) after each token of `tokens`; it is
    empty where the model knows no tag."""

    tokens: list[int]
    finished: bool
    short_circuited: bool
    log_probability: float
    tag_probabilities: list[float]
