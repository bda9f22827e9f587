"""A rate as metrics.json has it."""

from typing import Any

from safelm.statistics import DIGITS

Json = dict[str, Any]


def rate(count: int, of: int) -> Json:
    """A count of a total, and its value; None of nothing."""
    return {"count": count, "of": of, "value": round(count / of, DIGITS) if of else None}
