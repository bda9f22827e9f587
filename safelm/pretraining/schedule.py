"""The learning rate of every step: warm-up, plateau and decay (WSD)."""

import math
from functools import partial
from typing import Literal

from specs.shape import TrainingRecipe

DecayStyle = Literal["linear", "cosine", "1-sqrt"]


def warmup_and_decay(recipe: TrainingRecipe, steps: int, full_steps: float) -> tuple[int, int]:
    """Return the steps of the warm-up and of the decay, at least one each.

    A warm-up may be a share of `full_steps`, the steps that the budget would take in full rows. The
    decay is a share of `steps`.

    Raises:
        ValueError: the warm-up is as long as the whole training.
    """
    warmup = recipe.warmup
    if not isinstance(warmup, int):
        # Of `full_steps`, so that mixtures of one budget have the same warm-up, however long their
        # documents are, and can share a beginning.
        warmup = max(1, min(round(warmup * full_steps), steps - 1))
    if warmup >= steps > 1:
        raise ValueError(
            f"recipe.warmup: expected fewer steps than the {steps:,} of the plan (got {warmup:,}); "
            "write more `tokens` in the budget, or another warmup in specs/shapes"
        )
    decay = max(1, min(round(recipe.decay * steps), steps - warmup))
    return warmup, decay


def learning_rates(
    recipe: TrainingRecipe,
    steps: int,
    full_steps: float,
    count: int,
) -> list[float]:
    """Return the learning rates of the first `count` steps of a run of `steps` steps."""
    warmup, decay = warmup_and_decay(recipe, steps, full_steps)
    peak = recipe.learning_rate
    factor = partial(
        rate_factor,
        warmup=warmup,
        start=steps - decay,
        decay=decay,
        low=recipe.min_learning_rate / peak,
        style=recipe.decay_style,
    )
    return [peak * factor(step) for step in range(count)]


def rate_factor(
    step: int,
    *,
    warmup: int,
    start: int,
    decay: int,
    low: float,
    style: DecayStyle,
) -> float:
    """Return the learning rate of a step as a factor of its peak.

    "linear" and "cosine" are Nanotron's schedules (helpers.py:94-146).

    Args:
        step: counted from 0.
        warmup: steps of the warm-up.
        start: the first step of the decay.
        decay: steps of the decay.
        low: the factor at the end of the decay.
        style: the form of the decay.
    """
    if step <= warmup:
        return step / warmup
    progress = min(max(step - start, 0) / decay, 1.0)
    if style == "linear":
        remaining = 1 - progress
    elif style == "cosine":
        remaining = (1 + math.cos(math.pi * progress)) / 2
    else:
        # 1-sqrt, the decay of SmolLM (paper §6).
        remaining = 1 - math.sqrt(progress)
    return low + (1 - low) * remaining
