"""Fit the n-gram classifier on a judge's labels and measure it on those held out (paper §1.3, with n-grams in place of
the embedding model). Also what the labels themselves are worth: the judge beside the labels of the source."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from math import floor
from pathlib import Path
from typing import Any

import numpy as np

from safelm.sample import draw
from safelm.scoring.ensemble import ensemble
from safelm.scoring.metrics import LEVELS, measures
from safelm.scoring.ngrams import Counts, NgramScorer, count
from safelm.shards import tables

FEWEST = 10  # labels under which nothing is fitted or measured
STEPS = 300  # of L-BFGS, at most


@dataclass(frozen=True)
class Label:
    """A document of the sample: the judge's score and hazard, and as `label` the score its source gives, if any."""

    id: str
    text: str
    score: int
    reason: str
    hazard: str | None
    label: int | None


def read_labels(folder: Path) -> list[Label]:
    """Every label of build/annotate, by id: the order of shards does not matter."""
    rows = [Label(**row) for table in tables(folder) for row in table.to_pylist()]
    return sorted(rows, key=lambda label: label.id)


def split(labels: Sequence[Label], share: float, seed: int) -> tuple[list[Label], list[Label]]:
    """(for training, held out), stratified by score and drawn by id; a class always keeps one for training."""
    train, held_out = [], []
    for score in range(LEVELS):
        of_score = [label for label in labels if label.score == score]
        of_score.sort(key=lambda label: (draw("held_out", seed, label.id), label.id))
        size = min(floor(len(of_score) * share + 0.5), max(len(of_score) - 1, 0))
        held_out += of_score[:size]
        train += of_score[size:]
    return train, held_out


def fit(
    labels: Sequence[Label], orders: Sequence[int], buckets: int, unsafe_weight: float, regularisation: float
) -> NgramScorer:
    """Multinomial logistic regression on tf-idf; the loss on unsafe documents is multiplied by λ (paper §1.3).

    Labels of one class alone, or fewer than FEWEST, give a constant predictor of their most frequent score.
    """
    scores = np.array([label.score for label in labels])
    if len(labels) < FEWEST or len(set(scores.tolist())) < 2:
        return constant(labels, orders, buckets)
    counts = count([label.text for label in labels], orders, buckets)
    columns, places, frequency = np.unique(counts.buckets, return_inverse=True, return_counts=True)
    if not len(columns):
        return constant(labels, orders, buckets)
    idf = (np.log((1 + len(labels)) / (1 + frequency)) + 1).astype(np.float32)
    counts = Counts(counts.texts, counts.rows, places, counts.counts)
    weight = np.where(scores > 0, unsafe_weight, 1.0)
    weights, bias = _regress(counts, idf, scores, weight, regularisation)
    classes = tuple(sorted(set(scores.tolist())))
    return NgramScorer(tuple(orders), buckets, classes, columns.astype(np.int32), idf, weights, bias)


def _regress(counts: Counts, idf: Any, scores: Any, weight: Any, regularisation: float) -> tuple[Any, Any]:
    """(weights, bias) for each class; on one thread, for threads add in another order and change the last bits."""
    from scipy.sparse import csr_array  # here, for importing it takes longer than most stages
    from sklearn.linear_model import LogisticRegression
    from threadpoolctl import threadpool_limits

    values = counts.weights(idf[counts.buckets].astype(np.float64))
    matrix = csr_array((values, (counts.rows, counts.buckets)), shape=(counts.texts, len(idf)))
    with threadpool_limits(1):
        model = LogisticRegression(C=regularisation, max_iter=STEPS).fit(matrix, scores, sample_weight=weight)
    weights, bias = model.coef_.T, model.intercept_
    if weights.shape[1] == 1:  # two classes: scikit-learn keeps the difference of their logits
        weights, bias = np.hstack([-weights / 2, weights / 2]), np.array([-bias[0] / 2, bias[0] / 2])
    return weights.astype(np.float32), bias.astype(np.float32)


def constant(labels: Sequence[Label], orders: Sequence[int], buckets: int) -> NgramScorer:
    """A predictor of the most frequent score (of equals, the higher), whatever the text; of no labels, of 0."""
    frequency = Counter(label.score for label in labels)
    score = max(frequency, key=lambda score: (frequency[score], score), default=0)
    nothing = np.zeros(0, dtype=np.float32)
    return NgramScorer(
        tuple(orders),
        buckets,
        (score,),
        nothing.astype(np.int32),
        nothing,
        nothing.reshape(0, 1),
        np.zeros(1, np.float32),
    )


def describe(labels: Sequence[Label]) -> dict[str, Any]:
    """labels.json: how many of each score and hazard, and how the judge agrees with the source's own labels."""
    scores = Counter(label.score for label in labels)
    hazards = Counter(label.hazard for label in labels if label.hazard)
    known = [(label.label, label.score) for label in labels if label.label is not None]
    return {
        "documents": len(labels),
        "scores": [scores[score] for score in range(LEVELS)],
        "hazards": dict(sorted(hazards.items())),
        "known": measures(known) if known else None,
    }


def evaluate(
    scorer: NgramScorer, train: Sequence[Label], held_out: Sequence[Label], scorers: Sequence[str], rule: str
) -> dict[str, Any]:
    """held_out.json: the classifier against the judge, and all three columns against the labels of the source."""
    predicted = scorer.predict([label.text for label in held_out])
    judged = [label.score for label in held_out]
    columns = {"judge": judged, "ngrams": predicted}
    columns["ensemble"] = [ensemble(rule, row) for row in zip(*(columns[name] for name in scorers), strict=True)]
    measured = bool(held_out) and len(train) + len(held_out) >= FEWEST
    return {
        "train": len(train),
        "held_out": len(held_out),
        "note": _note(scorer, train, held_out),
        "ngrams": measures(zip(judged, predicted, strict=True)) if measured else None,
        "known": _known(held_out, columns) if measured else None,
    }


def _known(held_out: Sequence[Label], columns: dict[str, list[int]]) -> dict[str, Any] | None:
    """Each column against the labels of the source, on the documents that have one; None where none has."""
    labels = [label.label for label in held_out]
    pairs = {
        name: [(label, score) for label, score in zip(labels, column, strict=True) if label is not None]
        for name, column in columns.items()
    }
    return {name: measures(rows) for name, rows in pairs.items()} if any(pairs.values()) else None


def _note(scorer: NgramScorer, train: Sequence[Label], held_out: Sequence[Label]) -> str | None:
    """A sentence where the labels were too few or too much alike to learn or to measure anything."""
    total = len(train) + len(held_out)
    if total < FEWEST:
        return f"Only {total} labels: nothing was fitted or measured, every document gets the score {scorer.scores[0]}."
    if len(scorer.scores) == 1:
        return f"All {total} labels are alike: nothing was fitted, every document gets the score {scorer.scores[0]}."
    if not held_out:
        return f"No class of the {total} labels is large enough to hold one back: nothing was measured."
    return None


def write_metrics(folder: Path, labels: dict[str, Any], held_out: dict[str, Any]) -> None:
    """labels.json, held_out.json, and confusion.csv: a row for each held-out document, as `dvc plots` wants it."""
    for name, values in (("labels", labels), ("held_out", held_out)):
        (folder / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    matrix = held_out["ngrams"]["confusion"] if held_out["ngrams"] else []
    rows = [f"{actual},{predicted}\n" * n for actual, row in enumerate(matrix) for predicted, n in enumerate(row)]
    (folder / "confusion.csv").write_text("".join(["actual,predicted\n", *rows]), encoding="utf-8")


def summary(held_out: dict[str, Any]) -> str:
    """One line for the screen."""
    sizes = f"{held_out['train']:,} labels, {held_out['held_out']:,} held out"
    if not held_out["ngrams"]:
        return f"{sizes}  {held_out['note']}"
    shown = (("macro-F1", "macro_f1_present"), ("recall@1", "recall_at_1"), ("recall@3", "recall_at_3"))
    values = ((title, held_out["ngrams"][name]) for title, name in shown)
    return "  ".join([sizes, *(f"{title} {'-' if value is None else format(value, '.3f')}" for title, value in values)])
