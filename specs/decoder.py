"""A decoder: one row of evaluate.decoders. Every variant of SafeBeam is a row, none is a copied
loop.
"""

from typing import Literal, Protocol, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from specs.spec import Spec

LOOKS_AHEAD = ("half", "boundary", "absolute")  # the rules that read p(tag) before they choose


class Values(Protocol):
    """What `contradiction` reads, of a row or of what decodes."""

    @property
    def method(self) -> str: ...
    @property
    def beams(self) -> int: ...
    @property
    def candidates(self) -> int: ...
    @property
    def rule(self) -> str: ...
    @property
    def threshold(self) -> float: ...
    @property
    def weight(self) -> float: ...
    @property
    def short_circuit(self) -> bool: ...
    @property
    def top_k(self) -> int: ...
    @property
    def temperature(self) -> float: ...


def contradiction(values: Values) -> str | None:
    """What contradicts the method, and what to write; None where nothing does."""
    method, beams, candidates = values.method, values.beams, values.candidates
    if method in ("greedy", "top_k") and beams != 1:
        return f"{method} keeps one text, so beams must be 1 (got {beams}); write beams: 1"
    if method != "safebeam" and values.rule != "none":
        return f"{method} drops no candidates, only safebeam does (got rule: {values.rule}); write rule: none"
    if method == "branch" and candidates != 1:
        return f"each text of branch goes on greedily (got candidates: {candidates}); write candidates: 1"
    if method != "branch" and values.weight:
        return f"{method} weighs no texts, only branch does (got weight: {values.weight}); write weight: 0.0"
    if method in ("greedy", "top_k") and candidates != 1:
        return (
            f"{method} compares no candidates (got candidates: {candidates}); write candidates: 1"
        )
    if method != "top_k" and (values.top_k != 1 or values.temperature != 1):
        return (
            f"{method} draws nothing, only top_k does (got top_k: {values.top_k}, temperature: "
            f"{values.temperature:g}); write top_k: 1, temperature: 1.0"
        )
    if (
        values.threshold
        and values.rule != "absolute"
        and not (method == "branch" and values.short_circuit)
    ):
        return (
            f"{method} reads no threshold, only rule absolute does and branch with short_circuit "
            f"(got threshold: {values.threshold:g}); write threshold: 0.0"
        )
    if method == "beam" and candidates < beams:
        return (
            f"beam with {candidates} candidates a beam can miss the {beams} likeliest texts; write candidates: {beams} "
            "or more"
        )
    return None


class Decoder(Spec):
    """How the next token is chosen (paper §5).

    method: greedy, beam, top_k (sampling), safebeam or branch. rule says which candidates safebeam
    drops: half (as printed, the half with the highest tag probability), boundary (the same,
    compared at word boundaries), absolute (those over `threshold`) or random (the control: a random
    half, whatever the tag says). branch is ours: it writes `beams` whole answers that begin
    differently, and gives the one that is likely and little tagged."""

    method: Literal["greedy", "beam", "top_k", "safebeam", "branch"]
    beams: PositiveInt = Field(
        description="k, the beams kept; 1 for greedy and top_k; of branch, the answers written"
    )
    candidates: PositiveInt = Field(description="N, the tokens tried per beam; 1 for branch")
    rule: Literal["none", "half", "boundary", "absolute", "random"]
    threshold: NonNegativeFloat = Field(
        le=1,
        description="tag probability above which rule absolute drops, or branch with short_circuit refuses; else 0",
    )
    weight: NonNegativeFloat = Field(
        description="nats of log-probability that branch pays for a mean tag probability of 1; 0 for the others"
    )
    floor: NonNegativeFloat = Field(
        lt=1, description="least probability of a candidate; 0 for no floor"
    )
    short_circuit: bool = Field(
        description="stop and refuse when the tag is the likeliest next token; see threshold"
    )
    top_k: PositiveInt = Field(description="tokens that top_k draws from; 1 otherwise")
    temperature: PositiveFloat

    @model_validator(mode="after")
    def _of_one_mind(self) -> Self:
        if found := contradiction(self):
            raise PydanticCustomError("decoder", "{found}", {"found": found})
        return self

    @property
    def needs_tag(self) -> bool:
        """Whether it reads the probability of the tag, which only a model that knows the tag has."""
        return self.short_circuit or self.weight > 0 or self.rule in LOOKS_AHEAD
