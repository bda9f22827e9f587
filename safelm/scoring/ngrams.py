"""N-gram scorer: logistic regression over hashed n-grams; it needs no pretrained model."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from safelm.scoring.base import GradeDocuments, Grades, Probabilities, grades_of
from safelm.scoring.labels import FitScorer, Label
from safelm.scoring.ngram_features import Counts, count_ngrams
from specs.spec import SCORE_LEVELS

FORMAT = 2
CONFIG, WEIGHTS = "config.json", "weights.safetensors"
SETTINGS = ("words", "characters", "buckets", "scores")
TENSORS = ("columns", "idf", "weights", "bias")
MIN_LABELS = 10  # with fewer, nothing is fitted
MAX_ITERATIONS = 300  # of L-BFGS


@dataclass(frozen=True)
class NgramScorer:
    """A fitted classifier.

    `scores` are its classes, `columns` the sorted buckets that it saw in training. An unseen n-gram
    adds nothing to a class, but counts in the length of the text. So a text of another kind falls
    back on the bias. Without columns it is a constant predictor.
    """

    words: tuple[int, ...]
    characters: tuple[int, ...]
    buckets: int
    scores: tuple[int, ...]
    columns: NDArray[np.int32]
    idf: NDArray[np.float32]
    weights: NDArray[np.float32]  # a row for each column, a column for each class
    bias: NDArray[np.float32]

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return the most probable score of each text, with the probabilities of all."""
        return grades_of(self.probabilities(texts), "n-grams")

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """Return the probability of every score; 0 for those that no label had."""
        logits = self._logits(texts)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        probabilities = np.zeros((len(texts), SCORE_LEVELS))
        probabilities[:, list(self.scores)] = powers / powers.sum(axis=1, keepdims=True)
        return probabilities

    @cached_property
    def _column_of_bucket(self) -> NDArray[np.int32]:
        """The column of each bucket; unseen buckets have the one behind the last."""
        column_of = np.full(self.buckets, len(self.columns), dtype=np.int32)
        column_of[self.columns] = np.arange(len(self.columns), dtype=np.int32)
        return column_of

    @cached_property
    def _padded(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(idf, weights by class) with a column for unseen buckets: the rarest idf, weight 0."""
        idf = np.append(self.idf, self.idf.max()).astype(np.float64)
        return idf, np.pad(self.weights.astype(np.float64), ((0, 1), (0, 0))).T.copy()

    def _logits(self, texts: Sequence[str]) -> Probabilities:
        if not len(self.columns):
            return np.tile(self.bias.astype(np.float64), (len(texts), 1))
        counts = count_ngrams(texts, self.words, self.characters, self.buckets)
        idf, weights = self._padded
        columns = self._column_of_bucket[counts.buckets]
        values = counts.weights(idf[columns])
        # bincount adds in the order of the entries, so a text's sum is independent of the others.
        sums = [
            np.bincount(counts.rows, values * of_class[columns], len(texts)) for of_class in weights
        ]
        return (np.stack(sums, axis=1) + self.bias).astype(np.float64)

    def save(self, folder: Path) -> list[str]:
        """Save config.json and weights.safetensors, and return their names.

        Equal scorers give equal bytes.
        """
        config = {"format": FORMAT, **{name: getattr(self, name) for name in SETTINGS}}
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in TENSORS}
        (folder / WEIGHTS).write_bytes(save(tensors))
        return [CONFIG, WEIGHTS]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read a saved scorer. Raises FileNotFoundError, or ValueError for another format."""
        try:
            config = json.loads((folder / CONFIG).read_bytes())
            tensors = load_file(folder / WEIGHTS)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{folder}: has no fitted scorer; run `dvc repro fit`"
            ) from error
        if config["format"] != FORMAT:
            raise ValueError(
                f"{folder / CONFIG}: expected format {FORMAT} (got {config['format']}); "
                "run `dvc repro fit`"
            )
        words, characters, buckets, scores = (config[name] for name in SETTINGS)
        weights = [tensors[name] for name in TENSORS]
        return cls(tuple(words), tuple(characters), buckets, tuple(scores), *weights)


def fit_ngrams(
    texts: Sequence[str],
    scores: Sequence[int],
    *,
    words: Sequence[int],
    characters: Sequence[int],
    buckets: int,
    unsafe_weight: float,
    regularisation: float,
) -> NgramScorer:
    """Fit multinomial logistic regression on tf-idf.

    The loss on documents scored above 0 is multiplied by `unsafe_weight` (λ, paper §1.3). Labels of
    one class alone, or fewer than MIN_LABELS, give a constant predictor of the most frequent score.
    """
    shape = (tuple(words), tuple(characters), buckets)
    if len(texts) < MIN_LABELS or len(set(scores)) < 2:
        return _constant(scores, *shape)
    counts = count_ngrams(texts, words, characters, buckets)
    columns, entries, frequency = np.unique(counts.buckets, return_inverse=True, return_counts=True)
    if not len(columns):
        return _constant(scores, *shape)
    idf = (np.log((1 + len(texts)) / (1 + frequency)) + 1).astype(np.float32)
    actual = np.array(scores)
    sample_weight = np.where(actual > 0, unsafe_weight, 1.0)
    compact = Counts(counts.texts, counts.rows, entries, counts.counts)
    weights, bias = _regress(compact, idf, actual, sample_weight, regularisation)
    classes = tuple(sorted(set(scores)))
    return NgramScorer(*shape, classes, columns.astype(np.int32), idf, weights, bias)


def _regress(
    counts: Counts, idf: Any, scores: Any, sample_weight: Any, regularisation: float
) -> tuple[Any, Any]:
    """Return (weights, bias) for each class.

    On one thread: several add in another order, which changes the last bits.
    """
    # Imported here: it takes longer than most stages.
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    values = counts.weights(idf[counts.buckets].astype(np.float64))
    matrix = csr_array((values, (counts.rows, counts.buckets)), shape=(counts.texts, len(idf)))
    model = LogisticRegression(C=regularisation, max_iter=MAX_ITERATIONS)
    with threadpool_limits(1):
        model.fit(matrix, scores, sample_weight=sample_weight)
    weights, bias = model.coef_.T, model.intercept_
    # Of two classes scikit-learn keeps the difference of their logits.
    if weights.shape[1] == 1:
        weights = np.hstack([-weights / 2, weights / 2])
        bias = np.hstack([-bias / 2, bias / 2])
    return weights.astype(np.float32), bias.astype(np.float32)


def _constant(
    scores: Sequence[int], words: tuple[int, ...], characters: tuple[int, ...], buckets: int
) -> NgramScorer:
    """Return a predictor of the most frequent score (of equals, the higher); 0 without labels."""
    frequency = Counter(scores)
    score = max(frequency, key=lambda score: (frequency[score], score), default=0)
    empty = np.zeros(0, dtype=np.float32)
    columns, weights, bias = empty.astype(np.int32), empty.reshape(0, 1), np.zeros(1, np.float32)
    return NgramScorer(words, characters, buckets, (score,), columns, empty, weights, bias)


@dataclass(kw_only=True, eq=False, repr=False)
class FitNgrams(FitScorer):
    """Fit the n-gram scorer on the labels."""

    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn", "scipy")
    words: tuple[int, ...]
    characters: tuple[int, ...]
    buckets: int
    unsafe_weight: float
    regularisation: float

    def fit(self, train: Sequence[Label], attempt: Path) -> tuple[NgramScorer, list[str]]:
        """Return the classifier and its two files."""
        scorer = fit_ngrams(
            [label.text for label in train],
            [label.score for label in train],
            words=self.words,
            characters=self.characters,
            buckets=self.buckets,
            unsafe_weight=self.unsafe_weight,
            regularisation=self.regularisation,
        )
        return scorer, scorer.save(attempt)


@dataclass(kw_only=True, eq=False, repr=False)
class GradeByNgrams(GradeDocuments):
    """Grade every document by its n-grams.

    Paper §1.3 takes the maximum over chunks, since its encoders read a few hundred tokens. N-grams
    read the whole document.
    """

    files: tuple[Path, ...]

    def open(self) -> NgramScorer:
        """Read the scorer that `fit` saved."""
        return NgramScorer.read(self.files[0].parent)
