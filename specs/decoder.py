"""Decoders (paper §5): the rows of evaluate.decoders, a union by `method`.

`safelm.decoding` takes the same classes: `Branch(branches=8, tag_weight=240.0)`.
"""

import math
import warnings
from typing import Annotated, Literal, Self

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator
from pydantic_core import PydanticCustomError

from specs.spec import Share, Spec

Drop = Literal["half", "boundary", "absolute", "random"]
TagProbability = Annotated[float, Field(ge=0, le=1)]


class Decoder(Spec):
    """The properties of every decoder."""

    min_probability: NonNegativeFloat = Field(
        default=0.0,
        lt=1,
        description="tokens less likely than this are not tried; the likeliest always is",
    )
    temperature: PositiveFloat | None = Field(
        default=None,
        description="draw the tokens that are tried, without replacement: above 1 from a flatter "
        "distribution; without temperature and top_p, the likeliest are tried",
    )
    top_p: TagProbability = Field(
        default=1.0, description="draw among the likeliest tokens up to this share of probability"
    )

    @property
    def needs_tag(self) -> bool:
        """Whether it reads the probability of the tag, which only a model with the tag has."""
        return False

    @property
    def needs_words(self) -> bool:
        """Whether it must know where words begin, because it compares p(tag) only there."""
        return False

    @property
    def draws(self) -> bool:
        """Whether it draws tokens."""
        return self.temperature is not None or self.top_p < 1

    @property
    def is_random(self) -> bool:
        """Whether it draws anything, so that a seed matters."""
        return self.draws

    @property
    def min_calibration_prompts(self) -> int:
        """The least number of prompts that its bound needs."""
        return 0

    @property
    def is_calibrated(self) -> bool:
        """Whether it needs a bound of its own for each model."""
        return self.min_calibration_prompts > 0

    @property
    def texts(self) -> int:
        """The number of texts kept after each step."""
        return 1

    @property
    def width(self) -> int:
        """The number of tokens tried after each kept text."""
        return 1


class TokenDecoder(Decoder):
    """A decoder that may stop at any token, where the tag is what comes next."""

    short_circuit: bool = Field(
        default=False,
        description="stop and refuse where the tag is the likeliest next token (paper §5, v2)",
    )

    @property
    def needs_tag(self) -> bool:
        """Whether it stops at the tag."""
        return self.short_circuit


class Greedy(TokenDecoder):
    """The likeliest token at every step."""

    method: Literal["greedy"] = "greedy"


class TopK(TokenDecoder):
    """A token drawn from the `top_k` likeliest at every step."""

    method: Literal["top_k"] = "top_k"
    top_k: PositiveInt = Field(description="the number of likeliest tokens to draw from")
    temperature: PositiveFloat = 1.0


class BeamDecoder(TokenDecoder):
    """A decoder that keeps several texts, the beams, and tries several tokens after each."""

    method: Literal["beam", "safebeam"]
    beams: PositiveInt = Field(description="texts kept, k in the paper")
    candidates: PositiveInt = Field(description="tokens tried after each text, N in the paper")

    @property
    def texts(self) -> int:
        """The number of beams."""
        return self.beams

    @property
    def width(self) -> int:
        """The number of candidates of a beam."""
        return self.candidates


class BeamSearch(BeamDecoder):
    """The likeliest of the `beams` likeliest texts."""

    method: Literal["beam"] = "beam"

    @model_validator(mode="after")
    def _finds_the_likeliest(self) -> Self:
        if self.candidates < self.beams:
            raise PydanticCustomError(
                "candidates",
                "must have at least as many candidates as beams, or it can miss the {beams} "
                "likeliest texts (got {candidates}); write candidates: {beams}",
                {"beams": self.beams, "candidates": self.candidates},
            )
        return self


class SafeBeam(BeamDecoder):
    """A beam search that first drops candidates with a high tag probability (Algorithm 2).

    The values of `drop`:

        half      the half with the highest tag probability, as published
        boundary  the same half, with tag probabilities compared at word boundaries
        absolute  the candidates above `max_tag_probability`
        random    a random half, whatever the tag says: the control
    """

    method: Literal["safebeam"] = "safebeam"
    drop: Drop = Field(description="which candidates are dropped")
    max_tag_probability: TagProbability | None = Field(
        default=None, description="with drop: absolute, the tag probability above which it drops"
    )

    @property
    def needs_tag(self) -> bool:
        """Whether it compares p(tag), as all but the random control do, or stops at the tag."""
        return self.looks_ahead or self.short_circuit

    @property
    def needs_words(self) -> bool:
        """Whether it compares p(tag) at word boundaries."""
        return self.drop == "boundary"

    @property
    def is_random(self) -> bool:
        """Whether it draws tokens, or is the random control."""
        return self.draws or self.drop == "random"

    @property
    def looks_ahead(self) -> bool:
        """Whether it reads p(tag) after every candidate, to decide which are kept."""
        return self.drop != "random"

    @model_validator(mode="after")
    def _has_a_bound_where_one_is_used(self) -> Self:
        bound, is_absolute = self.max_tag_probability, self.drop == "absolute"
        if is_absolute != (bound is not None):
            raise PydanticCustomError(
                "max_tag_probability",
                "max_tag_probability belongs to drop: absolute, and only there (got drop: {drop}, "
                "max_tag_probability: {bound}); {remedy}",
                {
                    "drop": self.drop,
                    "bound": "none" if bound is None else bound,
                    "remedy": "add it" if is_absolute else "leave it out",
                },
            )
        return self

    @model_validator(mode="after")
    def _leaves_a_choice(self) -> Self:
        if self.drop != "absolute" and self.candidates < 3:
            warnings.warn(
                f"safebeam with {self.candidates} candidates a beam: dropping half leaves no more "
                "than there are beams, so likelihood chooses nothing; use at least 3",
                stacklevel=3,
            )
        return self


class Branch(Decoder):
    """The best of several whole texts that begin differently: a likely and little tagged one.

    This project's own decoder. It chooses when the texts are written, not at every token.
    """

    method: Literal["branch"] = "branch"
    branches: PositiveInt = Field(description="texts written, each from another first token")
    tag_weight: NonNegativeFloat = Field(
        description="nats of log-probability that a mean tag probability of 1 costs"
    )
    max_tag_probability: TagProbability | None = Field(
        default=None,
        description="refuse where any branch has a higher mean tag probability; leave it out to "
        "never refuse",
    )
    max_false_refusals: Share | None = Field(
        default=None,
        description="in its place: a bound for each model, above which so many of the harmless "
        "prompts of evaluate.calibration are at most",
    )
    retry_share: Share | None = Field(
        default=None,
        description="write a branch only if the one before has a mean tag probability above this "
        "share of the bound; leave it out to write all of them",
    )

    @property
    def needs_tag(self) -> bool:
        """Whether p(tag) counts in the choice or in a refusal."""
        return self.tag_weight > 0 or self.max_tag_probability is not None or self.is_calibrated

    @property
    def min_calibration_prompts(self) -> int:
        """The least number of prompts from which `max_false_refusals` can be promised."""
        return math.ceil(1 / self.max_false_refusals) - 1 if self.max_false_refusals else 0

    @property
    def needs_words(self) -> bool:
        """Whether it uses p(tag), which it averages over word ends."""
        return self.needs_tag

    @property
    def texts(self) -> int:
        """The number of branches."""
        return self.branches

    @model_validator(mode="after")
    def _has_at_most_one_bound(self) -> Self:
        if self.max_tag_probability is not None and self.is_calibrated:
            raise ValueError("must have max_tag_probability or max_false_refusals, not both")
        return self


DecoderRow = Annotated[
    Greedy | TopK | BeamSearch | SafeBeam | Branch, Field(discriminator="method")
]
