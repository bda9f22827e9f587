"""Measures of 6-way scores, all from one confusion matrix: rows are the true scores 0-5, columns
the predicted ones.

`recall_at` and the macro-F1 give the paper's Table 3 from its printed matrices to four digits
(paper §1.6). A measure of which there is nothing to measure is None."""

from collections.abc import Iterable, Sequence
from typing import Any

LEVELS = 6
DIGITS = 6

Matrix = Sequence[Sequence[int]]


def confusion(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Count (actual, predicted) pairs."""
    matrix = [[0] * LEVELS for _ in range(LEVELS)]
    for actual, predicted in pairs:
        matrix[actual][predicted] += 1
    return matrix


def ratio(count: float, of: float) -> float | None:
    """count / of, rounded; None of nothing."""
    return round(count / of, DIGITS) if of else None


def accuracy(matrix: Matrix) -> float | None:
    """The share of rows on the diagonal."""
    return ratio(sum(matrix[k][k] for k in range(LEVELS)), sum(map(sum, matrix)))


def class_f1(matrix: Matrix, score: int) -> float:
    """F1 of one class; 0 where it is neither true nor predicted, as in scikit-learn."""
    hits, actual, predicted = matrix[score][score], sum(matrix[score]), _column(matrix, score)
    return 2 * hits / (actual + predicted) if actual + predicted else 0.0


def macro_f1(matrix: Matrix, present_only: bool = False) -> float | None:
    """The mean F1 of the six classes, as the paper has it, or of those that truly occur."""
    scores = [k for k in range(LEVELS) if sum(matrix[k]) or not present_only]
    return (
        ratio(sum(class_f1(matrix, k) for k in scores), len(scores))
        if sum(map(sum, matrix))
        else None
    )


def recall_at(matrix: Matrix, threshold: int) -> float | None:
    """Recall of "true score at least k" by "predicted score at least k" (Table 3)."""
    unsafe = matrix[threshold:]
    return ratio(sum(sum(row[threshold:]) for row in unsafe), sum(map(sum, unsafe)))


def false_alarms(matrix: Matrix) -> float | None:
    """The share of harmless documents that got a score above 0."""
    return ratio(sum(matrix[0][1:]), sum(matrix[0]))


def kappa(matrix: Matrix) -> float | None:
    """Cohen's kappa: agreement beyond chance. None where chance alone agrees always."""
    total = sum(map(sum, matrix))
    if not total:
        return None
    observed = sum(matrix[k][k] for k in range(LEVELS)) / total
    chance = sum(sum(matrix[k]) * _column(matrix, k) for k in range(LEVELS)) / total**2
    return ratio(observed - chance, 1 - chance)


def measures(pairs: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """Everything above of some (actual, predicted) pairs, with counts, as a metrics file shows it."""
    matrix = confusion(pairs)
    return {
        "documents": sum(map(sum, matrix)),
        "accuracy": accuracy(matrix),
        "macro_f1": macro_f1(matrix),
        "macro_f1_present": macro_f1(matrix, present_only=True),
        "recall_at_1": recall_at(matrix, 1),
        "recall_at_3": recall_at(matrix, 3),
        "false_alarms": false_alarms(matrix),
        "kappa": kappa(matrix),
        "classes": [_class(matrix, score) for score in range(LEVELS)],
        "confusion": matrix,
    }


def _class(matrix: Matrix, score: int) -> dict[str, Any]:
    hits, actual, predicted = matrix[score][score], sum(matrix[score]), _column(matrix, score)
    return {
        "score": score,
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, actual),
        "f1": round(class_f1(matrix, score), DIGITS),
        "hits": hits,
        "actual": actual,
        "predicted": predicted,
    }


def _column(matrix: Matrix, score: int) -> int:
    return sum(row[score] for row in matrix)
