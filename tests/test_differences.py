"""The paired bootstrap, and the differences between models and decoders in the report."""

import json
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from safelm.builder.shards import write_table
from safelm.report.build import load_report, write_report
from safelm.report.claim import Claim
from safelm.report.data import ReportData
from safelm.report.figures.differences import compared
from safelm.stats.bootstrap import Outcomes, Paired, Side, holm
from safelm.stats.bootstrap import paired as paired_sides
from safelm.stats.differences import difference
from safelm.stats.rates import rate
from specs.document import SAMPLES
from tests import report_world as world
from tests.measured import all_measured

IDS = [f"p{number:03d}" for number in range(150)]


def outcomes(
    share: float, seed: int, like: dict[str, bool] | None = None, kept: float = 0.0
) -> dict[str, bool]:
    """Random outcomes; of those `like` another model's, a share is the other's."""
    draw = random.Random(seed)
    return {id: like[id] if like and draw.random() < kept else draw.random() < share for id in IDS}


def paired(
    first: Sequence[Outcomes], second: Sequence[Outcomes], acts: dict[str, str], confidence: float
) -> Paired | None:
    """Two sides, each given by the answers of its seeds."""
    one, other = (
        Side({f"{name}_{seed}": answers for seed, answers in enumerate(side)}, acts)
        for name, side in (("a", first), ("b", second))
    )
    return paired_sides(one, other, confidence)


def test_the_value_is_the_difference_of_the_rates() -> None:
    first, second = outcomes(0.5, 1), outcomes(0.3, 2)
    found = paired([first], [second], {}, 0.95)
    assert found and found.prompts == 150
    assert found.gap.value == pytest.approx((sum(first.values()) - sum(second.values())) / 150)
    assert found.gap.low < found.gap.value < found.gap.high


def test_models_that_err_alike_have_a_narrower_interval_than_separate_rates() -> None:
    first = outcomes(0.5, 1)
    second = outcomes(0.3, 2, like=first, kept=0.9)
    found = paired([first], [second], {}, 0.95)
    apart = difference(*(rate(sum(one.values()), 150, 0.95) for one in (first, second)))
    assert found and apart and found.gap.high - found.gap.low < 0.6 * (apart.high - apart.low)


def test_prompts_of_one_act_count_as_one() -> None:
    first = {id: int(id[1:]) % 50 < 25 for id in IDS}
    second = {id: int(id[1:]) % 50 < 15 for id in IDS}
    acts = {id: f"a{int(id[1:]) % 50}" for id in IDS}  # three prompts each, answered alike
    alone, together = paired([first], [second], {}, 0.95), paired([first], [second], acts, 0.95)
    assert alone and together and alone.gap.value == pytest.approx(together.gap.value)
    width = (together.gap.high - together.gap.low) / (alone.gap.high - alone.gap.low)
    assert width == pytest.approx(np.sqrt(3), rel=0.1)


def test_seeds_that_differ_widen_the_interval() -> None:
    second = [outcomes(0.3, 9)]
    alike, apart = (
        [outcomes(share, seed) for seed, share in enumerate(shares)]
        for shares in ((0.5,) * 3, (0.2, 0.5, 0.8))
    )
    narrow, wide = paired(alike, second, {}, 0.95), paired(apart, second, {}, 0.95)
    assert narrow and wide and wide.gap.high - wide.gap.low > 2 * (narrow.gap.high - narrow.gap.low)


def test_two_decoders_of_the_same_models_are_compared_seed_by_seed() -> None:
    seeds = {str(seed): outcomes(share, seed) for seed, share in enumerate((0.2, 0.5, 0.8))}
    worse = {
        name: {prompt: one[prompt] and prompt > IDS[30] for prompt in IDS}
        for name, one in seeds.items()
    }
    others = {f"other {name}": answers for name, answers in worse.items()}
    same, apart = (paired_sides(Side(seeds, {}), Side(side, {}), 0.95) for side in (worse, others))
    assert same and apart and same.gap.value == apart.gap.value
    assert same.gap.high - same.gap.low < 0.5 * (apart.gap.high - apart.gap.low)


@pytest.mark.parametrize("seeds", [2, 3])
def test_two_models_of_few_seeds_are_seldom_told_apart_by_chance(seeds: int) -> None:
    draw, found = random.Random(1), 0
    for _ in range(100):
        # Seeds differ by ten points.
        shares = [[draw.gauss(0.5, 0.1) for _ in range(seeds)] for _ in range(2)]
        sides = [[outcomes(share, draw.getrandbits(32)) for share in side] for side in shares]
        one = paired(*sides, {}, 0.95)
        found += one is not None and one.p_value < 0.05
    assert found <= 9


def test_only_prompts_that_both_answered_are_compared() -> None:
    found = paired([{"a": True, "b": True}], [{"b": False, "c": True}], {}, 0.95)
    assert found and (found.prompts, found.gap.value) == (1, 1.0)
    assert paired([{"a": True}], [{"b": True}], {}, 0.95) is None


def test_equal_answers_are_no_difference() -> None:
    found = paired([outcomes(0.5, 1)], [outcomes(0.5, 1)], {}, 0.95)
    assert found and (found.gap.low, found.gap.high, found.p_value) == (0.0, 0.0, 1.0)


def test_the_chance_of_a_clear_difference_has_no_least_value() -> None:
    clear = paired([outcomes(0.8, 1)], [outcomes(0.2, 2)], {}, 0.95)
    whole = paired([dict.fromkeys(IDS, True)], [dict.fromkeys(IDS, False)], {}, 0.95)
    slight = paired([outcomes(0.5, 1)], [outcomes(0.45, 2)], {}, 0.95)
    assert clear and whole and slight
    assert 0 < clear.p_value < 1e-12 and 0 < whole.p_value < 1e-12 and slight.p_value > 0.01


def test_the_interval_holds_the_truth_as_often_as_it_says() -> None:
    hits = 0
    for seed in range(200):
        first = outcomes(0.5, seed)
        found = paired([first], [outcomes(0.3, seed + 1000, like=first, kept=0.5)], {}, 0.95)
        assert found
        hits += found.gap.low <= 0.5 - (0.5 * 0.5 + 0.5 * 0.3) <= found.gap.high
    assert 180 <= hits <= 198


def test_holm_raises_each_chance_by_those_not_yet_rejected() -> None:
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([]) == []


# The report.

Loaded = tuple[ReportData, list[Claim], Path]


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    root = tmp_path_factory.mktemp("build")
    models = world.models("standard", "safe", seeds=2)
    world.write_build(root, models)
    for seed, name in enumerate(models):
        asr = 0.8 if name.startswith("standard") else 0.3
        for stage in ("pretrain", "instruct", "finetune"):
            write_samples(root / "evaluate" / f"{name}-{stage}", asr, seed)
    data, claims = load_report(root, world.declared(models))
    return data, claims, root


def write_samples(folder: Path, asr: float, seed: int) -> None:
    """Write samples: the same harmful prompts for every model, of two suites with two judges."""
    verdicts = outcomes(asr, seed)
    rows = [
        {
            "suite": suite,
            "decoder": decoder,
            "id": f"harmful-chat-tell-{id}",
            "form": "tell",
            "verdict": "harmful" if verdicts[id] else "refusal",
        }
        for suite in ("harmful", "advbench")
        for decoder in ("greedy", "safebeam")
        for id in IDS
    ]
    write_table(rows, SAMPLES, folder / "samples.parquet")
    harmful = [row for row in all_measured(folder, suite="harmful") if row.judge == "acts"]
    first = {"judge": "harm", "judge_kind": "refusal_phrases"}
    second = {"judge": "acts", "is_first_judge": False}
    measured = [replace(row, **changes) for row in harmful for changes in (first, second)]
    # Form null alone: further judges have no forms.
    copies = [row for row in measured if row.is_first_judge or row.form is None]
    world.write_rows([*copies, *(replace(row, suite="advbench") for row in copies)], folder)


def test_true_differences_are_significant_and_those_of_chance_are_not(loaded: Loaded) -> None:
    found = {
        (one["suite"], one["stage"], (one["first"], one["second"])): one["significant"]
        for one in compared(loaded[0])
    }
    between = [key for key in found if models_of(key[2]) == {"standard", "safe"}]
    within = [key for key in found if len(models_of(key[2])) == 1]
    assert len(between) == 12 and all(found[key] for key in between)
    assert len(within) == 12 and not any(found[key] for key in within)


def models_of(sides: tuple[str, ...]) -> set[str]:
    return {side.partition(",")[0] for side in sides}


def test_claims_compare_prompt_by_prompt_where_they_can(loaded: Loaded) -> None:
    claims = {claim.id: claim for claim in loaded[1]}
    one, further = claims["safety_lowers_base_asr"].comparisons
    # Outcomes of single prompts are those by the first judge.
    assert further.judge == "acts" and further.paired is None
    assert one.paired and one.gap == one.paired and one.verdict == "reproduced"
    assert all(other.paired is None for other in claims["instruct_lowers_asr"].comparisons)


def test_the_page_shows_suites_of_files_with_their_judges(loaded: Loaded) -> None:
    data, claims, root = loaded
    write_report(root / "report", data, claims, {})
    page = (root / "report/index.html").read_text()
    assert "Significant differences" in page and "The suite advbench" in page
    assert "Judge acts" in page and "even broken text" in page
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    rows = json.loads((root / "report/summary.json").read_bytes())["differences"]
    assert rows and {row["significant"] for row in rows} == {True, False}
