"""What every classifier must beat: TF-IDF of words and logistic regression, as scikit-learn has
them.
"""

from collections.abc import Sequence

BASELINE = "TF-IDF and logistic regression"
ITERATIONS = 1000


def baseline(
    texts: Sequence[str],
    is_unsafe: Sequence[bool],
    others: Sequence[str],
    orders: tuple[int, int] = (1, 1),
) -> list[float] | None:
    """The chance that each of the others is unsafe, after fitting on the texts; None where there is
    nothing to learn.

    Every setting is the library's own but the number of iterations; `orders` are the least and the
    most words of an n-gram."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    if len(set(is_unsafe)) < 2 or not others:
        return None
    model = make_pipeline(
        TfidfVectorizer(ngram_range=orders), LogisticRegression(max_iter=ITERATIONS)
    )
    try:
        model.fit(list(texts), list(is_unsafe))
    except ValueError:  # no text has a word
        return None
    return [float(value) for value in model.predict_proba(list(others))[:, 1]]
