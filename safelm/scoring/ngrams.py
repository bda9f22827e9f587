"""A linear classifier of scores 0-5 over hashed n-grams: the scorer that needs no pretrained model."""

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

from safelm.scoring.base import GradeDocuments, Probabilities, grades_of
from safelm.scoring.labels import FitScorer, Label
from safelm.scoring.ngram_features import Counts, count_ngrams
from safelm.text.hazards import Grade
from specs.spec import SCORE_LEVELS

FORMAT = 2
CONFIG, WEIGHTS = "config.json", "weights.safetensors"
TENSORS = ("columns", "idf", "weights", "bias")
FEWEST = 10  # labels under which nothing is fitted
STEPS = 300  # of L-BFGS, at most


@dataclass(frozen=True)
class NgramScorer:
    """A fitted classifier: `scores` are the classes it knows; `columns`, sorted, the buckets it saw
    in training.

    What it never saw adds nothing to a class but to the length of the text, so a text of another
    kind falls back on the bias. Without columns it is a constant predictor."""

    words: tuple[int, ...]
    characters: tuple[int, ...]
    buckets: int
    scores: tuple[int, ...]
    columns: NDArray[np.int32]
    idf: NDArray[np.float32]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]

    def grade(self, texts: Sequence[str]) -> list[Grade | None]:
        """The most probable score of each text, and the probability of a score above 0."""
        return grades_of(self.probabilities(texts), "n-grams")

    def probabilities(self, texts: Sequence[str]) -> Probabilities:
        """The probability of every score; 0 for those that no label had."""
        logits = self._logits(texts)
        powers = np.exp(logits - logits.max(axis=1, keepdims=True))
        found = np.zeros((len(texts), SCORE_LEVELS))
        found[:, list(self.scores)] = powers / powers.sum(axis=1, keepdims=True)
        return found

    @cached_property
    def _places(self) -> NDArray[np.int32]:
        """For each bucket its place among the columns; the last place, behind them, is for the
        unseen.
        """
        places = np.full(self.buckets, len(self.columns), dtype=np.int32)
        places[self.columns] = np.arange(len(self.columns), dtype=np.int32)
        return places

    @cached_property
    def _padded(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """(idf, weights by class), each with the place of the unseen: the rarest idf, and no
        weight.
        """
        idf = np.append(self.idf, self.idf.max()).astype(np.float64)
        return idf, np.pad(self.weights.astype(np.float64), ((0, 1), (0, 0))).T.copy()

    def _logits(self, texts: Sequence[str]) -> Probabilities:
        """bincount adds in the order of the entries, so a text's sum does not depend on its
        neighbours.
        """
        if not len(self.columns):
            return np.tile(self.bias.astype(np.float64), (len(texts), 1))
        counts = count_ngrams(texts, self.words, self.characters, self.buckets)
        idf, weights = self._padded
        places = self._places[counts.buckets]
        values = counts.weights(idf[places])
        sums = [np.bincount(counts.rows, values * column[places], len(texts)) for column in weights]
        return (np.stack(sums, axis=1) + self.bias).astype(np.float64)

    def save(self, folder: Path) -> list[str]:
        """config.json and weights.safetensors; equal scorers give equal bytes. Returns the names of
        the files.
        """
        config = {
            "format": FORMAT,
            **{name: getattr(self, name) for name in ("words", "characters", "buckets", "scores")},
        }
        (folder / CONFIG).write_text(json.dumps(config, indent=1) + "\n", encoding="utf-8")
        (folder / WEIGHTS).write_bytes(
            save({name: np.ascontiguousarray(getattr(self, name)) for name in TENSORS})
        )
        return [CONFIG, WEIGHTS]

    @classmethod
    def read(cls, folder: Path) -> Self:
        """What `save` wrote."""
        try:
            config = json.loads((folder / CONFIG).read_bytes())
            tensors = load_file(folder / WEIGHTS)
        except FileNotFoundError as error:
            raise FileNotFoundError(
                f"{folder}: has no fitted scorer; run `dvc repro fit`"
            ) from error
        if config["format"] != FORMAT:
            raise ValueError(
                f"{folder / CONFIG}: expected format {FORMAT} (got {config['format']}); run `dvc repro fit`"
            )
        lists = {name: tuple(config[name]) for name in ("words", "characters", "scores")}
        return cls(buckets=config["buckets"], **lists, **{name: tensors[name] for name in TENSORS})  # type: ignore[arg-type]


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
    """Multinomial logistic regression on tf-idf; the loss on unsafe documents is multiplied by λ
    (paper §1.3).

    Labels of one class alone, or fewer than FEWEST, give a constant predictor of their most
    frequent score."""
    shape = (tuple(words), tuple(characters), buckets)
    if len(texts) < FEWEST or len(set(scores)) < 2:
        return _constant(scores, *shape)
    counts = count_ngrams(texts, words, characters, buckets)
    columns, places, frequency = np.unique(counts.buckets, return_inverse=True, return_counts=True)
    if not len(columns):
        return _constant(scores, *shape)
    idf = (np.log((1 + len(texts)) / (1 + frequency)) + 1).astype(np.float32)
    actual = np.array(scores)
    counts = Counts(counts.texts, counts.rows, places, counts.counts)
    weights, bias = _regress(
        counts, idf, actual, np.where(actual > 0, unsafe_weight, 1.0), regularisation
    )
    return NgramScorer(
        *shape, tuple(sorted(set(scores))), columns.astype(np.int32), idf, weights, bias
    )


def _regress(
    counts: Counts, idf: Any, scores: Any, weight: Any, regularisation: float
) -> tuple[Any, Any]:
    """(weights, bias) for each class; on one thread, for threads add in another order and change
    the last bits.
    """
    from scipy.sparse import csr_array  # here, for importing it takes longer than most stages
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    values = counts.weights(idf[counts.buckets].astype(np.float64))
    matrix = csr_array((values, (counts.rows, counts.buckets)), shape=(counts.texts, len(idf)))
    with threadpool_limits(1):
        model = LogisticRegression(C=regularisation, max_iter=STEPS).fit(
            matrix, scores, sample_weight=weight
        )
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:  # two classes: scikit-learn keeps the difference of their logits
        weights, bias = (
            np.hstack([-weights / 2, weights / 2]),
            np.array([-bias[0] / 2, bias[0] / 2]),
        )
    return weights.astype(np.float32), bias.astype(np.float32)


def _constant(
    scores: Sequence[int], words: tuple[int, ...], characters: tuple[int, ...], buckets: int
) -> NgramScorer:
    """A predictor of the most frequent score (of equals, the higher), whatever the text; of no
    labels, of 0.
    """
    frequency = Counter(scores)
    score = max(frequency, key=lambda score: (frequency[score], score), default=0)
    nothing = np.zeros(0, dtype=np.float32)
    columns, bias = nothing.astype(np.int32), np.zeros(1, np.float32)
    return NgramScorer(
        words, characters, buckets, (score,), columns, nothing, nothing.reshape(0, 1), bias
    )


@dataclass(kw_only=True, eq=False, repr=False)
class FitNgrams(FitScorer):
    """Fit n-grams on the labels."""

    libraries: ClassVar[tuple[str, ...]] = ("scikit-learn", "scipy")
    words: tuple[int, ...]
    characters: tuple[int, ...]
    buckets: int
    unsafe_weight: float
    regularisation: float

    def fit(self, train: Sequence[Label], attempt: Path) -> tuple[NgramScorer, list[str]]:
        """The classifier and its two files."""
        names = ("words", "characters", "buckets", "unsafe_weight", "regularisation")
        texts, scores = [label.text for label in train], [label.score for label in train]
        scorer = fit_ngrams(texts, scores, **{name: getattr(self, name) for name in names})
        return scorer, scorer.save(attempt)


@dataclass(kw_only=True, eq=False, repr=False)
class GradeByNgrams(GradeDocuments):
    """Grade every document by n-grams. Paper §1.3 takes the maximum over chunks, for its encoders
    read a few hundred tokens; n-grams read the whole document."""

    files: tuple[Path, ...]

    def open(self) -> NgramScorer:
        """What `fit` saved."""
        return NgramScorer.read(self.files[0].parent)
