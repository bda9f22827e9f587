"""A rate as metrics.json has it."""

from typing import Any

from safelm.statistics import DIGITS
from safelm.statistics import rate as with_interval

Json = dict[str, Any]


def rate(count: int, of: int) -> Json:
    """A count of a total, and its value; None of nothing."""
    return {"count": count, "of": of, "value": round(count / of, DIGITS) if of else None}


def with_intervals(tree: Any, confidence: float) -> Any:
    """The same tree with Wilson's interval in every rate of it."""
    if not isinstance(tree, dict):
        return tree
    if "count" in tree and "of" in tree:
        return with_interval(tree["count"], tree["of"], confidence).json()
    return {name: with_intervals(value, confidence) for name, value in tree.items()}
