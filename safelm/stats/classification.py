"""Metrics of classifiers: those of 6-way safety scores, kappa, and the baseline to beat.

Rows of a confusion matrix are the true scores 0-5, columns the predicted ones. Recall and macro-F1
give the paper's Table 3 from its printed matrices to four digits (paper §1.6). A metric without
anything to measure is None. scikit-learn is imported on first use: it takes a second.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import Any

from safelm.stats.rates import DIGITS, Rate, rate
from specs.spec import SCORE_LEVELS

BASELINE = "TF-IDF and logistic regression"
MAX_ITERATIONS = 1000

Matrix = Sequence[Sequence[int]]


def ratio(count: float, of: float) -> float | None:
    """Return count / of, rounded to DIGITS; None where `of` is 0."""
    return round(count / of, DIGITS) if of else None


def confusion(pairs: Iterable[tuple[int, int]]) -> list[list[int]]:
    """Count (actual, predicted) pairs."""
    matrix = [[0] * SCORE_LEVELS for _ in range(SCORE_LEVELS)]
    for actual, predicted in pairs:
        matrix[actual][predicted] += 1
    return matrix


def total(matrix: Matrix) -> int:
    """Count the documents of a confusion matrix."""
    return sum(map(sum, matrix))


def accuracy(matrix: Matrix) -> float | None:
    """Return the share of documents on the diagonal."""
    hits = sum(matrix[level][level] for level in range(SCORE_LEVELS))
    return ratio(hits, total(matrix))


def macro_f1(matrix: Matrix, present_only: bool = False) -> float | None:
    """Average F1 over the six classes, as the paper does, or over those that truly occur."""
    scores = [_f1(*_class_counts(matrix, level)) for level in range(SCORE_LEVELS)]
    # A class without documents has an F1 of 0, which would only lower the mean.
    if present_only:
        scores = [score for score, row in zip(scores, matrix, strict=True) if sum(row)]
    return ratio(sum(scores), len(scores)) if total(matrix) else None


def recall_counts(matrix: Matrix, level: int) -> tuple[int, int]:
    """Count pages truly at `level` or above: (predicted at `level` or above, all of them)."""
    unsafe = matrix[level:]
    found = sum(sum(row[level:]) for row in unsafe)
    return found, total(unsafe)


def recall_at(matrix: Matrix, level: int) -> float | None:
    """Compute Recall@k of Table 3: how many pages truly at `level` or above are found there."""
    return ratio(*recall_counts(matrix, level))


def recall_rate(matrix: Matrix, level: int, confidence: float) -> Rate | None:
    """Compute Recall@k with Wilson's interval; None without such pages."""
    recall = rate(*recall_counts(matrix, level), confidence)
    return recall if recall.of else None


def false_alarms(matrix: Matrix) -> float | None:
    """Return the share of harmless documents with a predicted score above 0."""
    return ratio(*_alarm_counts(matrix))


def false_alarm_rate(matrix: Matrix, confidence: float) -> Rate | None:
    """Compute the false alarms with Wilson's interval; None without harmless documents."""
    alarms = rate(*_alarm_counts(matrix), confidence)
    return alarms if alarms.of else None


def _alarm_counts(matrix: Matrix) -> tuple[int, int]:
    harmless = matrix[0]
    return sum(harmless[1:]), sum(harmless)


def kappa_of_pairs(pairs: Sequence[tuple[Hashable, Hashable]]) -> float | None:
    """Compute Cohen's kappa (1960) of pairs of labels of any kind.

    Returns None without pairs, or where the same single label stands everywhere: agreement by
    chance is complete there, and kappa undefined.
    """
    is_one_label = all(first == second for first, second in pairs)
    if is_one_label and len(set(pairs)) < 2:
        return None
    from sklearn.metrics import cohen_kappa_score

    # As text, since scikit-learn sorts the labels.
    firsts = [str(first) for first, _ in pairs]
    seconds = [str(second) for _, second in pairs]
    return round(float(cohen_kappa_score(firsts, seconds)), DIGITS)


def kappa(matrix: Matrix) -> float | None:
    """Compute Cohen's kappa of a confusion matrix."""
    pairs: list[tuple[int, int]] = []
    for actual, row in enumerate(matrix):
        for predicted, count in enumerate(row):
            pairs += [(actual, predicted)] * count
    return kappa_of_pairs(pairs)


def measures(pairs: Iterable[tuple[int, int]]) -> dict[str, Any]:
    """Compute all metrics of (actual, predicted) pairs, with counts, as metrics files show them."""
    matrix = confusion(pairs)
    return {
        "documents": total(matrix),
        "accuracy": accuracy(matrix),
        "macro_f1": macro_f1(matrix),
        "macro_f1_present": macro_f1(matrix, present_only=True),
        "recall_at_1": recall_at(matrix, 1),
        "recall_at_3": recall_at(matrix, 3),
        "false_alarms": false_alarms(matrix),
        "kappa": kappa(matrix),
        "classes": [_class_metrics(matrix, score) for score in range(SCORE_LEVELS)],
        "confusion": matrix,
    }


def _class_counts(matrix: Matrix, score: int) -> tuple[int, int, int]:
    """Count the hits of a class, the documents of it, and those predicted as it."""
    return matrix[score][score], sum(matrix[score]), sum(row[score] for row in matrix)


def _f1(hits: int, actual: int, predicted: int) -> float:
    """Compute the F1 of a class; 0 for one that is neither true nor predicted."""
    both = actual + predicted
    # The harmonic mean of precision and recall, written with the counts alone.
    return 2 * hits / both if both else 0.0


def _class_metrics(matrix: Matrix, score: int) -> dict[str, Any]:
    hits, actual, predicted = _class_counts(matrix, score)
    return {
        "score": score,
        "precision": ratio(hits, predicted),
        "recall": ratio(hits, actual),
        "f1": round(_f1(hits, actual, predicted), DIGITS),
        "hits": hits,
        "actual": actual,
        "predicted": predicted,
    }


def baseline(
    texts: Sequence[str],
    is_unsafe: Sequence[bool],
    others: Sequence[str],
    orders: tuple[int, int] = (1, 1),
) -> list[float] | None:
    """Fit TF-IDF and logistic regression on `texts`; return how probably each other text is unsafe.

    Every setting is scikit-learn's default but the number of iterations. `orders` are the least
    and the most words of an n-gram. Returns None where there is nothing to learn from.
    """
    if len(set(is_unsafe)) < 2 or not others:
        return None
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    regression = LogisticRegression(max_iter=MAX_ITERATIONS)
    model = make_pipeline(TfidfVectorizer(ngram_range=orders), regression)
    try:
        model.fit(list(texts), list(is_unsafe))
    except ValueError:  # no text has a word
        return None
    # The second column is the probability of the class True.
    probabilities = model.predict_proba(list(others))[:, 1]
    return [float(probability) for probability in probabilities]
