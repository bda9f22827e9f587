"""The learning rate of every step: a warm-up, a plateau and a decay (WSD), as shares of the steps."""

import math
from functools import partial
from typing import Literal

from specs.shape import Recipe

Style = Literal["linear", "cosine", "1-sqrt"]


def warmup_and_decay(recipe: Recipe, steps: int, full: float) -> tuple[int, int]:
    """How many steps the rate rises and falls, at least one each.

    A warm-up that is a share is one of the `full` steps that the budget takes in full rows:
    mixtures of one budget then have the same, however long their documents are, and can share a
    beginning. The decay is a share of the steps."""
    share = max(1, min(round(recipe.warmup * full), steps - 1))
    warmup = recipe.warmup if isinstance(recipe.warmup, int) else share
    if warmup >= steps > 1:
        raise ValueError(
            f"recipe.warmup: expected fewer steps than the {steps:,} of the plan (got {warmup:,}); "
            "write a larger mix.tokens, or another warmup in specs/shapes"
        )
    return warmup, max(1, min(round(recipe.decay * steps), steps - warmup))


def rates(recipe: Recipe, steps: int, full: float, first: int) -> list[float]:
    """The learning rates of the first steps of a run of `steps` steps."""
    warmup, decay = warmup_and_decay(recipe, steps, full)
    peak = recipe.learning_rate
    low = recipe.min_learning_rate / peak
    law = partial(
        factor, warmup=warmup, start=steps - decay, decay=decay, low=low, style=recipe.decay_style
    )
    return [peak * law(step) for step in range(first)]


def factor(step: int, *, warmup: int, start: int, decay: int, low: float, style: Style) -> float:
    """The learning rate of a step, counted from 0, as a factor of its peak; `low` is the factor it
    falls to.

    Nanotron's law (helpers.py:97-146), and 1-sqrt beside it: 1 - √(share of the decay that is
    over), SmolLM's cooldown (paper §6)."""
    if step <= warmup:
        return step / warmup
    over = min(max(step - start, 0) / decay, 1.0)
    if style == "linear":
        left = 1 - over
    elif style == "cosine":
        left = (1 + math.cos(math.pi * over)) / 2
    else:
        left = 1 - math.sqrt(over)
    return low + (1 - low) * left
