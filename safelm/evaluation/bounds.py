"""Settings of a decoder, and the bound of one that promises a rate of false refusals.

The bound is an order statistic of the decoder's scores on n harmless prompts that are never
reported: split conformal prediction (Vovk et al. 2005; Angelopoulos and Bates 2023, §1). If one
more harmless request is exchangeable with them, its score is above the k-th lowest with probability
at most (n + 1 - k) / (n + 1). Nothing is promised of requests of another kind, or of longer
answers. Answers that decline in words are not counted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

from safelm.builder.digest import content_digest, json_digest
from safelm.evaluation.measurements import Measurement, read_measurements
from specs.decoder import Branch, Decoder

BOUND = "refusal_bound"
CONFIDENCE = 0.95


@dataclass(frozen=True, kw_only=True)
class GenerationSettings:
    """A decoder with its limits. Equal settings give completions with equal bytes.

    `bound` is the part with the measurements of its bound, if it needs one.
    """

    decoder: Decoder
    max_new_tokens: int
    batch_size: int
    seed: int
    bound: Any = None

    @property
    def bounded(self) -> Decoder:
        """The decoder with its bound."""
        if self.bound is None:
            return self.decoder
        return with_bound(self.decoder, read_measurements(self.bound)[0].value)


def with_bound(decoder: Decoder, bound: float | None) -> Decoder:
    """Return a decoder with a bound in place of its promise, or without both."""
    return decoder.model_copy(update={"max_tag_probability": bound, "max_false_refusals": None})


def bound_path(decoder: str) -> str:
    """Return the path of a decoder's bound in the folder of an evaluation."""
    return f"bounds/{decoder}"


def bound_key(weights: Path, decoder: Decoder) -> str:
    """Return a digest of the model and the decoder for which a bound holds."""
    return json_digest([content_digest(weights), decoder.model_dump()])


def bound_measurements(key: str, decoder: Branch, scores: Sequence[float]) -> list[Measurement]:
    """Return the bound, with its key as `condition`, and the rate of refusals to be expected.

    That rate varies with the n prompts, as Beta(n + 1 - k, k); it is lower where scores are equal.

    Raises:
        ValueError: there are too few scores for what the decoder promises.
    """
    from scipy.stats import beta

    needed = decoder.min_calibration_prompts
    if len(scores) < needed:
        raise ValueError(
            f"evaluate.calibration: expected at least {needed} prompts that the model has room for "
            f"(got {len(scores)}); name a larger suite, or promise less"
        )
    of = len(scores) + 1
    # Rounded down, also where the product is a last bit below a whole number.
    above = floor((decoder.max_false_refusals or 0.0) * of)
    low, high = beta(above, of - above).interval(CONFIDENCE)
    return [
        # Not rounded, because it is one of the scores that it is compared with.
        Measurement(BOUND, value=sorted(scores)[-above], condition=key),
        Measurement("expected_refusals", above, of, above / of, low, high),
    ]
