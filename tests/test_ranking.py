"""The area under the ROC curve, its intervals and the reliability curve, beside scikit-learn and
arithmetic.
"""

import random

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from safelm.stats.ranking import auroc, auroc_gain, calibration_error, reliability


def sample(size: int, seed: int, gap: float = 1.0) -> tuple[list[bool], list[float]]:
    rng = random.Random(seed)
    actual = [rng.random() < 0.3 for _ in range(size)]
    return actual, [
        round(rng.gauss(gap * is_unsafe, 1.0), 1) for is_unsafe in actual
    ]  # rounded: with ties


@pytest.mark.parametrize("size", [20, 200, 2000])
def test_the_area_is_scikit_learns(size: int) -> None:
    actual, scores = sample(size, size)
    found = auroc(actual, scores, 0.95)
    assert found and found.value == pytest.approx(roc_auc_score(actual, scores), abs=1e-12)
    assert 0 <= found.low < found.value < found.high <= 1
    assert (found.unsafe, found.safe) == (sum(actual), size - sum(actual))


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    truth = 0.760250  # P(N(1, 1) > N(0, 1)) = Φ(1/√2)
    found = [auroc(*sample(150, seed), 0.95) for seed in range(400)]
    covered = np.mean([row is not None and row.low <= truth <= row.high for row in found])
    assert 0.92 <= covered <= 0.98


def test_a_gain_on_the_same_documents_has_a_narrower_interval() -> None:
    actual, scores = sample(300, 1)
    rng = random.Random(2)
    worse = [score + rng.gauss(0, 0.5) for score in scores]
    gain = auroc_gain(actual, scores, worse, 0.95)
    alone = [auroc(actual, values, 0.95) for values in (scores, worse)]
    assert gain and alone[0] and alone[1]
    assert gain[0] == pytest.approx(alone[0].value - alone[1].value)
    assert gain[2] - gain[1] < (alone[0].high - alone[0].low)
    assert auroc_gain(actual, scores, scores, 0.95) == (0.0, 0.0, 0.0)


def test_one_class_alone_has_no_area() -> None:
    assert auroc([True, True], [0.1, 0.2], 0.95) is None
    assert auroc_gain([False], [0.1], [0.2], 0.95) is None
    perfect = auroc([False, True], [0.1, 0.9], 0.95)
    assert perfect and (perfect.value, perfect.low, perfect.high) == (
        1.0,
        0.0,
        1.0,
    )  # two documents say little


def test_the_reliability_curve_is_of_tenths() -> None:
    curve = reliability([False, False, True, True, True], [0.05, 0.05, 0.95, 1.0, 0.41])
    assert curve == [
        {"predicted": 0.05, "observed": 0.0, "documents": 2},
        {"predicted": 0.41, "observed": 1.0, "documents": 1},
        {"predicted": 0.975, "observed": 1.0, "documents": 2},
    ]
    assert calibration_error(curve) == pytest.approx((0.1 + 0.59 + 0.05) / 5)
    assert calibration_error([]) is None
