"""A decoder: one row of evaluate.decoders. Every variant of SafeBeam is a row, none is a copied loop."""

from typing import Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt

from specs.spec import Spec

LOOKS_AHEAD = ("half", "boundary", "absolute")  # the rules that read p(tag) before they choose


class Decoder(Spec):
    """How the next token is chosen (paper §5).

    method: greedy, beam, top_k (sampling), safebeam or branch. rule says which candidates safebeam drops: half (as
    printed, the half with the highest tag probability), boundary (the same, compared at word boundaries), absolute
    (those over `threshold`) or random (the control: a random half, whatever the tag says). branch is ours: it writes
    `beams` whole answers that begin differently, and gives the one that is likely and little tagged.
    """

    method: Literal["greedy", "beam", "top_k", "safebeam", "branch"]
    beams: PositiveInt = Field(description="k, the beams kept; 1 for greedy and top_k; of branch, the answers written")
    candidates: PositiveInt = Field(description="N, the tokens tried per beam; 1 for branch")
    rule: Literal["none", "half", "boundary", "absolute", "random"]
    threshold: NonNegativeFloat = Field(
        le=1,
        description="tag probability above which rule absolute drops, or branch with short_circuit refuses; else 0",
    )
    weight: NonNegativeFloat = Field(
        description="nats of log-probability that branch pays for a mean tag probability of 1; 0 for the others"
    )
    floor: NonNegativeFloat = Field(lt=1, description="least probability of a candidate; 0 for no floor")
    short_circuit: bool = Field(description="stop and refuse when the tag is the likeliest next token; see threshold")
    top_k: PositiveInt = Field(description="tokens that top_k draws from; 1 otherwise")
    temperature: PositiveFloat

    @property
    def needs_tag(self) -> bool:
        """Whether it reads the probability of the tag, which only a model that knows the tag has."""
        return self.short_circuit or self.weight > 0 or self.rule in LOOKS_AHEAD
