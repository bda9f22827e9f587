"""Bounds of decoders that promise a rate of false refusals."""

import random
from pathlib import Path

import pytest

from safelm.evaluation.bounds import bound_measurements
from safelm.serve.command import ServeError, read_bound
from specs.decoder import Branch
from specs.params import Params
from tests.ingested import stage
from tests.measured import measured
from tests.tiny import evaluated_world

ROW = "{method: branch, branches: 3, tag_weight: 1.0, max_false_refusals: 0.1, retry_share: 0.5}"
FOLDER = Path("build/evaluate/tags-pretrain")


def promise(share: float) -> Branch:
    return Branch(branches=2, tag_weight=1.0, max_false_refusals=share)


@pytest.mark.parametrize(
    ("count", "share", "rank"), [(19, 0.05, 19), (199, 0.05, 190), (360, 0.05, 343), (9, 0.1, 9)]
)
def test_the_bound_is_an_order_statistic(count: int, share: float, rank: int) -> None:
    scores = random.Random(1).sample(range(1, count + 1), count)
    bound, expected = bound_measurements("key", promise(share), scores)
    assert (bound.value, bound.condition) == (rank, "key")
    assert (expected.count, expected.of) == (count + 1 - rank, count + 1)
    assert expected.value is not None and expected.value <= share


def test_the_interval_is_that_of_the_rate_to_expect() -> None:
    _, expected = bound_measurements("", promise(0.05), range(199))
    assert (expected.low, expected.high) == pytest.approx((0.0243, 0.0841), abs=1e-4)


def test_the_promise_holds_for_scores_of_any_distribution() -> None:
    draw = random.Random(2)
    above = 0
    for _ in range(4000):
        *scores, further = (draw.lognormvariate(0, 3) for _ in range(40))
        above += further > (bound_measurements("", promise(0.1), scores)[0].value or 0)
    assert 0.083 < above / 4000 < 0.117  # 4 of 40 places are above: 0.1, within 3.5 errors


def test_too_few_prompts_are_refused_with_the_number_needed() -> None:
    with pytest.raises(ValueError, match=r"at least 19 prompts .* \(got 18\)"):
        bound_measurements("", promise(0.05), range(18))


def test_a_bound_is_measured_evaluated_and_served_to_no_other_model_or_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    evaluated_world(tmp_path)
    params = Path("params.yaml")
    text = params.read_text().replace("{method: greedy}\n", f"{{method: greedy}}\n    own: {ROW}\n")
    block = "  calibration: {suite: calibration, max_prompts: 19}\n  judges:\n"
    params.write_text(text.replace("  judges:\n", block))
    stage("evaluate", "tags", "pretrain")
    bound = measured(FOLDER, "refusal_bound", decoder="own")
    expected = measured(FOLDER, "expected_refusals", decoder="own")
    assert (expected.count, expected.of) == (2, 20) and bound.condition is None
    tokens = [
        measured(FOLDER, metric, decoder="own", suite="benign").value
        for metric in ("greedy_tokens", "answered_tokens")
    ]
    assert 0 < tokens[0] <= tokens[1]
    row = Params.read("evaluate").evaluate.decoders["own"]
    served = read_bound(Path("build/pretrain/tags"), "own", row)
    assert isinstance(served, Branch) and not served.is_calibrated
    assert served.max_tag_probability == pytest.approx(bound.value)
    assert served.retry_share == 0.5
    for model, name, other in (
        ("build/pretrain/tags", "own", promise(0.1)),
        ("build/pretrain/plain", "own", row),
        ("build/pretrain/tags", "none", row),
    ):
        with pytest.raises(ServeError, match=rf"--decoder {name}: .* run `safelm build`"):
            read_bound(Path(model), name, other)
