"""Rates that are not answers of models: a scorer's recall (confusion matrix) and hazard n-grams
(report cards).
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from safelm.stats.rates import Rate, rate
from specs.spec import SCORE_LEVELS

Matrix = Sequence[Sequence[int]]


def recall(matrix: Matrix, level: int, confidence: float) -> Rate | None:
    """Recall@k of Table 3: pages truly at `level` or above that are predicted at `level` or above."""
    unsafe = matrix[level:]
    found = rate(sum(sum(row[level:]) for row in unsafe), sum(map(sum, unsafe)), confidence)
    return found if found.of else None


def false_alarms(matrix: Matrix, confidence: float) -> Rate | None:
    """Harmless pages that are predicted above 0."""
    found = rate(sum(matrix[0][1:]), sum(matrix[0]), confidence)
    return found if found.of else None


def macro_f1(matrix: Matrix) -> float | None:
    """The mean F1 of the six classes, as in Table 3; a class that is neither true nor predicted
    counts 0.
    """
    if not sum(map(sum, matrix)):
        return None
    sums = [(matrix[k][k], sum(matrix[k]) + sum(row[k] for row in matrix)) for k in range(SCORE_LEVELS)]
    return sum(2 * hits / both if both else 0.0 for hits, both in sums) / SCORE_LEVELS


def matrices(fit: Mapping[str, Any] | None) -> Iterator[tuple[str, Matrix]]:
    """(name, confusion matrix) of everything that held_out.json measured: scorers first, then
    against the source.
    """
    for kind, label in (("scorers", ""), ("known", " (known)")):
        for name, found in ((fit or {}).get(kind) or {}).items():
            if found and found.get("confusion"):
                yield f"{name}{label}", found["confusion"]


def hazard_counts(
    cards: Mapping[str, Any], corpora: Iterable[str], hazard: str | None = None
) -> tuple[int, int]:
    """(hazard n-grams, words) of some corpora together; of one hazard, or of all."""
    found = [cards[name] for name in corpora if name in cards]
    kept = [
        [row["count"] for key, row in card["hazards"].items() if hazard in (None, key)]
        for card in found
    ]
    return sum(map(sum, kept)), sum(card["words"] for card in found)


def hazards(cards: Mapping[str, Any]) -> list[str]:
    """The hazards that the cards list, in their order."""
    return list(dict.fromkeys(hazard for card in cards.values() for hazard in card["hazards"]))


def per_million(counts: tuple[int, int]) -> float | None:
    """A count per million words."""
    return counts[0] / counts[1] * 1e6 if counts[1] else None


def histogram(card: Mapping[str, Any]) -> list[int]:
    """Documents of each score from 0 to 5; a card writes the scores as words or as a list."""
    scores = card.get("scores") or {}
    if isinstance(scores, Mapping):
        return [int(scores.get(str(level), 0) or 0) for level in range(SCORE_LEVELS)]
    return [int(count) for count in scores]
