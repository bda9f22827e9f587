"""Intervals against published values, and the verdicts that follow from them."""

import random

import pytest

from safelm.stats.differences import Difference, below, difference, not_above, together
from safelm.stats.rates import (
    overdispersion,
    pooled,
    rate,
    wilson,
)


@pytest.mark.parametrize(
    ("count", "of", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17:857), Table I, method 3.
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_wilson_gives_the_published_intervals(count: int, of: int, low: float, high: float) -> None:
    assert wilson(count, of, 0.95) == pytest.approx((low, high), abs=5e-5)


def test_wilson_keeps_its_ends_at_nothing_and_everything() -> None:
    assert wilson(0, 10, 0.95)[0] == 0.0
    assert wilson(10, 10, 0.95)[1] == 1.0


def test_wilson_is_wider_with_more_confidence_and_fewer_prompts() -> None:
    low, high = wilson(30, 100, 0.95)
    assert wilson(30, 100, 0.99)[0] < low < wilson(300, 1000, 0.95)[0]
    assert wilson(30, 100, 0.99)[1] > high > wilson(300, 1000, 0.95)[1]


def test_wilson_refuses_more_than_all() -> None:
    with pytest.raises(ValueError, match="got 11 of 10"):
        wilson(11, 10, 0.95)


@pytest.mark.parametrize(
    ("first", "second", "low", "high"),
    # Newcombe 1998 (Statistics in Medicine 17:873), Table II, method 10.
    [
        ((56, 70), (48, 80), 0.0524, 0.3339),
        ((9, 10), (3, 10), 0.1705, 0.8090),
        ((5, 56), (0, 29), -0.0381, 0.1926),
        ((0, 10), (0, 10), -0.2775, 0.2775),
        ((10, 10), (0, 10), 0.6075, 1.0),
    ],
)
def test_a_difference_has_newcombes_interval(
    first: tuple[int, int], second: tuple[int, int], low: float, high: float
) -> None:
    gap = difference(rate(*first, 0.95), rate(*second, 0.95))
    assert gap is not None
    assert (gap.low, gap.high) == pytest.approx((low, high), abs=6e-5)


def test_of_nothing_there_is_no_rate_and_no_difference() -> None:
    assert rate(0, 0, 0.95).json() == {
        "value": None,
        "count": 0,
        "of": 0,
        "low": None,
        "high": None,
    }
    assert difference(rate(0, 0, 0.95), rate(1, 2, 0.95)) is None


@pytest.mark.parametrize("count", [0, 50, 100])
def test_seeds_that_agree_are_as_many_prompts_as_one(count: int) -> None:
    assert overdispersion([(count, 100)] * 3) == 1.0
    found, one = pooled([(count, 100)] * 3, 0.95), rate(count, 100, 0.95)
    assert (found.count, found.of, found.seeds) == (3 * count, 300, (count / 100,) * 3)
    assert (found.value, found.low, found.high) == pytest.approx((one.value, one.low, one.high))


def test_the_interval_of_seeds_that_answer_alike_holds_the_truth_as_often_as_it_says() -> None:
    draw, hits = random.Random(1), 0
    for _ in range(400):
        answers = [
            draw.random() < 0.7 for _ in range(100)
        ]  # of the first seed; the others differ in one of ten
        seeds = [
            [draw.random() < 0.7 if draw.random() < 0.1 else answer for answer in answers]
            for _ in range(3)
        ]
        found = pooled([(sum(seed), 100) for seed in seeds], 0.95)
        hits += found.low <= 0.7 <= found.high
    assert hits >= 370


def test_seeds_that_differ_widen_the_interval() -> None:
    found, one = pooled([(101, 192), (145, 192)], 0.95), rate(123, 192, 0.95)
    assert found.value == one.value
    assert found.low < one.low and found.high > one.high
    assert found.low < 101 / 192 and found.high > 145 / 192


def test_one_seed_shows_no_spread() -> None:
    assert pooled([(3, 10)], 0.95) == rate(3, 10, 0.95)
    assert pooled([(3, 10), (0, 0)], 0.95) == rate(3, 10, 0.95)


def test_below_is_read_from_the_interval() -> None:
    assert below(Difference(-0.2, -0.3, -0.1)) == "reproduced"
    assert below(Difference(0.2, 0.1, 0.3)) == "contradicted"
    assert below(Difference(-0.2, -0.5, 0.0)) == "not distinguishable"
    assert below(None) == "not measured"


def test_few_prompts_do_not_pass_for_equality() -> None:
    assert not_above(Difference(0.0, -0.02, 0.02), 0.05) == "reproduced"
    assert not_above(Difference(0.0, -0.3, 0.3), 0.05) == "not distinguishable"
    assert not_above(Difference(0.2, 0.1, 0.3), 0.05) == "contradicted"
    assert not_above(Difference(0.02, 0.01, 0.03), 0.05) == "reproduced"


def test_what_may_lie_within_the_margin_is_not_contradicted() -> None:
    assert not_above(Difference(0.06, 0.01, 0.12), 0.05) == "not distinguishable"
    assert not_above(Difference(0.12, 0.06, 0.18), 0.05) == "contradicted"


def test_a_claim_of_several_needs_all_of_them() -> None:
    assert together(["reproduced", "reproduced"]) == "reproduced"
    assert together(["reproduced", "not distinguishable"]) == "not distinguishable"
    assert together(["reproduced", "contradicted"]) == "contradicted"
    assert together(["reproduced", "not measured"]) == "reproduced"
    assert together([]) == together(["not measured"]) == "not measured"
