"""One score of several: the rule over the columns of the scorers (paper §1.5: the maximum, for recall)."""

from collections.abc import Callable, Sequence
from math import floor
from statistics import fmean, median

RULES: dict[str, Callable[[Sequence[int]], float]] = {"max": max, "mean": fmean, "median": median}


def ensemble(rule: str, scores: Sequence[int]) -> int:
    """The score of one document from its scorers' columns; a half is rounded up, to the less safe score."""
    return floor(RULES[rule](scores) + 0.5)
