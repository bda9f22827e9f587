"""Counts of report cards and confusion matrices, as figures and claims read them."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any

from safelm.stats.classification import Matrix

Counts = tuple[int, int]  # (hazard n-grams, words)


def matrices(fit: Mapping[str, Any]) -> Iterator[tuple[str, Matrix]]:
    """Iterate over (name, confusion matrix): scorers against the judge, then against the source."""
    for block, label in (("scorers", ""), ("known", " (known)")):
        for name, metrics in (fit.get(block) or {}).items():
            if metrics and metrics.get("confusion"):
                yield f"{name}{label}", metrics["confusion"]


def hazard_counts(
    cards: Mapping[str, Any], corpora: Iterable[str], hazard: str | None = None
) -> Counts:
    """Count hazard n-grams and words of some corpora together; of one hazard, or of all."""
    chosen = [cards[name] for name in corpora if name in cards]
    count = 0
    for card in chosen:
        rows = card["hazards"].items()
        count += sum(row["count"] for name, row in rows if hazard in (None, name))
    return count, sum(card["words"] for card in chosen)


def hazards(cards: Mapping[str, Any]) -> list[str]:
    """Return the hazards of all cards, in their order."""
    return list(dict.fromkeys(chain(*(card["hazards"] for card in cards.values()))))


def per_million(counts: Counts) -> float | None:
    """Return a count per million words; None without words."""
    count, words = counts
    return count / words * 1e6 if words else None
