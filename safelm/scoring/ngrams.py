"""N-gram scorer: logistic regression over hashed n-grams; it needs no pretrained model.

Fitted on short labelled texts, it hardly sees a few harmful lines of a long page: of moderation
texts hidden in web pages it found 10 % by whole documents and 20 % by chunks, at 1 % of harmless
pages called unsafe (benchmarks/labels.py).
"""

import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import ceil
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from safelm.builder.files import Json, write_json
from safelm.scoring.base import Grades, Probabilities, grade_chunks, grades_of
from safelm.scoring.labels import FitScorer, Label
from safelm.scoring.ngram_features import Counts, count_ngrams
from safelm.scoring.operating_point import GradeFitted
from specs.scorer import Ngrams
from specs.spec import SCORE_LEVELS

FORMAT = 2  # of config.json: a scorer saved in another format is refused
CONFIG, WEIGHTS = "config.json", "weights.safetensors"
SETTINGS = ("words", "characters", "buckets", "scores")
TENSORS = ("columns", "idf", "weights", "bias")
MIN_LABELS = 10  # with fewer, nothing is fitted
MAX_ITERATIONS = 300  # of L-BFGS, scikit-learn's solver
MAX_WORD = 40  # characters after a cut in which white space is sought
SPACE = re.compile(r"\s")


@dataclass(frozen=True)
class NgramScorer:
    """A fitted classifier of n-grams.

    `scores` are its classes, `columns` the sorted buckets that occurred in training. Without
    columns it predicts the same for every text. A text longer than `chunk_characters` is graded in
    chunks, if that is set.
    """

    words: tuple[int, ...]
    characters: tuple[int, ...]
    buckets: int
    scores: tuple[int, ...]
    columns: NDArray[np.int32]
    idf: NDArray[np.float32]
    weights: NDArray[np.float32]  # a row for each column, a column for each class
    bias: NDArray[np.float32]
    chunk_characters: int | None = None

    def grade(self, texts: Sequence[str]) -> Grades:
        """Return one grade for each text: its most probable score, and the probabilities."""
        if self.chunk_characters is None:
            return grades_of(self.probabilities(texts), "n-grams")
        chunks: list[str] = []
        owners: list[int] = []
        for index, text in enumerate(texts):
            parts = split_text(text, self.chunk_characters)
            chunks += parts
            owners += [index] * len(parts)
        by_chunk = self.probabilities(chunks)
        return grade_chunks(by_chunk, np.array(owners), len(texts), "n-grams")

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """Return the probabilities of every score; 0 for a score that no label had."""
        logits = self._logits(texts)
        # Without the maximum, exp() would overflow.
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        by_class = powers / powers.sum(axis=1, keepdims=True)
        probabilities = np.zeros((len(texts), SCORE_LEVELS))
        probabilities[:, list(self.scores)] = by_class
        return probabilities

    @cached_property
    def _column_of_bucket(self) -> NDArray[np.int32]:
        """The column of each bucket; those unseen in training share one more column."""
        column_of = np.full(self.buckets, len(self.columns), dtype=np.int32)
        column_of[self.columns] = np.arange(len(self.columns), dtype=np.int32)
        return column_of

    @cached_property
    def _padded(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The idf of each column and the weights of each class, with the column of the unseen."""
        # An unseen n-gram has weight 0, but an idf: it adds to the length of the text. So a text
        # unlike all labels is graded by the bias alone.
        idf = np.append(self.idf, self.idf.max()).astype(np.float64)
        weights = np.pad(self.weights.astype(np.float64), ((0, 1), (0, 0)))
        return idf, weights.T.copy()

    def _logits(self, texts: Sequence[str]) -> Probabilities:
        if not len(self.columns):
            return np.tile(self.bias.astype(np.float64), (len(texts), 1))
        counts = count_ngrams(texts, self.words, self.characters, self.buckets)
        idf, weights = self._padded
        columns = self._column_of_bucket[counts.buckets]
        values = counts.weights(idf[columns])
        # bincount adds in the order of the entries, so the other texts do not change a sum's bits.
        sums = [
            np.bincount(counts.rows, values * of_class[columns], len(texts)) for of_class in weights
        ]
        return (np.stack(sums, axis=1) + self.bias).astype(np.float64)

    def save(self, folder: Path) -> list[str]:
        """Save config.json and weights.safetensors, and return their names."""
        config = {"format": FORMAT, **{name: getattr(self, name) for name in SETTINGS}}
        write_json(folder / CONFIG, config)
        tensors = {name: np.ascontiguousarray(getattr(self, name)) for name in TENSORS}
        (folder / WEIGHTS).write_bytes(save(tensors))
        return [CONFIG, WEIGHTS]

    @classmethod
    def read(cls, folder: Path, chunk_characters: int | None = None) -> Self:
        """Read a saved scorer.

        Raises FileNotFoundError without one, and ValueError for another format.
        """
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
        weights: Json = {name: tensors[name] for name in TENSORS}
        shape = (tuple(words), tuple(characters), buckets, tuple(scores))
        return cls(*shape, **weights, chunk_characters=chunk_characters)


def split_text(text: str, size: int) -> list[str]:
    """Split a text at white space into equal chunks of about `size` characters, at most."""
    number = max(ceil(len(text) / size), 1)
    cuts = [0]
    for index in range(1, number):
        # A word is cut only where the white space before it lies far away.
        at = len(text) * index // number
        space = SPACE.search(text, at, at + MAX_WORD)
        cuts.append(space.start() if space else at)
    return [text[start:end] for start, end in pairwise([*cuts, len(text)])]


def fit_ngrams(texts: Sequence[str], scores: Sequence[int], row: Ngrams) -> NgramScorer:
    """Fit multinomial logistic regression on tf-idf, with the settings of a row of `scorers`.

    The loss on documents scored above 0 is multiplied by `unsafe_weight`, λ of paper §1.3. Fewer
    than MIN_LABELS labels, or labels of one score alone, give a constant predictor.
    """
    shape = (tuple(row.words), tuple(row.characters), row.buckets)
    if len(texts) < MIN_LABELS or len(set(scores)) < 2:
        return _constant(scores, *shape)
    counts = count_ngrams(texts, *shape)
    columns, entries, frequency = np.unique(counts.buckets, return_inverse=True, return_counts=True)
    if not len(columns):
        return _constant(scores, *shape)
    # The smoothed idf of scikit-learn: as if one more text had every n-gram.
    inverse_frequency = (1 + len(texts)) / (1 + frequency)
    idf = (np.log(inverse_frequency) + 1).astype(np.float32)
    actual = np.array(scores)
    sample_weight = np.where(actual > 0, row.unsafe_weight, 1.0)
    compact = Counts(counts.texts, counts.rows, entries, counts.counts)
    weights, bias = _regress(compact, idf, actual, sample_weight, row.regularisation)
    classes = tuple(sorted(set(scores)))
    return NgramScorer(
        *shape, classes, columns.astype(np.int32), idf, weights, bias, row.chunk_characters
    )


def _regress(
    counts: Counts, idf: Any, scores: Any, sample_weight: Any, regularisation: float
) -> tuple[Any, Any]:
    """Return (weights, bias) for each class."""
    # Imported here: it takes longer than most stages run.
    from scipy.sparse import csr_array
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    values = counts.weights(idf[counts.buckets].astype(np.float64))
    matrix = csr_array((values, (counts.rows, counts.buckets)), shape=(counts.texts, len(idf)))
    model = LogisticRegression(C=regularisation, max_iter=MAX_ITERATIONS)
    # Several threads add in another order, which changes the last bits.
    with threadpool_limits(1):
        model.fit(matrix, scores, sample_weight=sample_weight)
    weights, bias = model.coef_.T, model.intercept_
    # For two classes scikit-learn stores the difference of their logits alone.
    if weights.shape[1] == 1:
        weights = np.hstack([-weights / 2, weights / 2])
        bias = np.hstack([-bias / 2, bias / 2])
    return weights.astype(np.float32), bias.astype(np.float32)


def _constant(
    scores: Sequence[int], words: tuple[int, ...], characters: tuple[int, ...], buckets: int
) -> NgramScorer:
    """Return a constant predictor of the most frequent score; of 0 without labels."""
    frequency = Counter(scores)
    # Of equally frequent scores, the higher.
    score = max(frequency, key=lambda score: (frequency[score], score), default=0)
    columns = np.zeros(0, np.int32)
    idf = np.zeros(0, np.float32)
    weights = np.zeros((0, 1), np.float32)
    bias = np.zeros(1, np.float32)
    return NgramScorer(words, characters, buckets, (score,), columns, idf, weights, bias)


class FitNgrams(FitScorer):
    """Fit the n-gram scorer on the labels."""

    libraries = ("scikit-learn", "scipy")
    row: Ngrams

    def fit(self, train: Sequence[Label], folder: Path) -> tuple[NgramScorer, list[str]]:
        """Return the classifier and its two files."""
        scorer = fit_ngrams(
            [label.text for label in train],
            [label.score for label in train],
            self.row,
        )
        return scorer, scorer.save(folder)


class GradeByNgrams(GradeFitted):
    """Grade every document by its n-grams, or by those of its chunks."""

    chunk_characters: int | None = None

    def read(self, folder: Path) -> NgramScorer:
        """Read the scorer that `fit` saved."""
        return NgramScorer.read(folder, self.chunk_characters)
