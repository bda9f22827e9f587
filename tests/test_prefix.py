"""Tests of shared beginnings: schedules that intervene after 0, 20, 60 and 100 % of training."""

import multiprocessing
import threading
import time
from pathlib import Path

import pytest

from safelm.corpora.mixing.mixture import build_mixture
from safelm.corpora.mixing.plan import Plan
from safelm.pretraining.config import nanotron_config
from safelm.pretraining.launch import pretrain
from safelm.pretraining.prefix import longest_prefix, prefix_keys
from safelm.pretraining.publish import Trained
from specs.mixture import Phase
from specs.shape import Shape, TrainingRecipe
from tests.token_files import write_corpus, write_tokenizer

NANO = Shape.read("nano")
TINY = NANO.model_copy(update={"hidden": 16, "layers": 1, "ffn": 32, "heads": 2, "kv_heads": 2})
SAFE, ALL = {"safe": 1.0}, {"safe": 1.0, "refusals": 1.0}
SCHEDULES = {
    "from_0": [(5, ALL)],
    "from_20": [(1, SAFE), (4, ALL)],
    "from_60": [(1, SAFE), (2, SAFE), (2, ALL)],
    "never": [(1, SAFE), (2, SAFE), (2, SAFE)],
}


def planned(build: Path, name: str) -> Plan:
    """Plan one of the schedules over two corpora."""
    phases = [
        Phase(share=share, proportions="natural", parts=parts) for share, parts in SCHEDULES[name]
    ]
    corpora = {corpus: build / "tokenize" / corpus for corpus in phases[-1].parts}
    folder = build / "mix" / name
    folder.mkdir(parents=True)
    return build_mixture(
        name,
        phases,
        corpora,
        dict.fromkeys(corpora, 20.0),
        {},
        tokens=4800,
        sequence_length=16,
        layout="packed",
        batch_size=16,
        seed=1,
        held_out_rows=4,
        vocabulary=64,
        tag=3,
        folder=folder,
    )


@pytest.fixture(scope="module")
def plans(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Plan]]:
    build = tmp_path_factory.mktemp("schedules") / "build"
    write_corpus(build / "tokenize/safe", [[first, *range(5, 20)] for first in range(4, 44)] * 3)
    write_corpus(build / "tokenize/refusals", [[first, *range(30, 45)] for first in range(4, 44)])
    write_tokenizer(build / "tokenizer", 64)
    return build, {name: planned(build, name) for name in SCHEDULES}


def keys(
    plan: Plan, recipe: TrainingRecipe = TINY.recipe, seed: int = 7, code: str = "code"
) -> list[str]:
    shape = TINY.model_copy(update={"recipe": recipe})
    return list(
        prefix_keys(plan, shape, nanotron_config("m", shape, plan, seed, 1, 1), [code]).values()
    )


def test_equal_beginnings_have_equal_keys(plans: tuple[Path, dict[str, Plan]]) -> None:
    keys_of = {name: keys(plan) for name, plan in plans[1].items()}
    assert [len(prefixes) for prefixes in keys_of.values()] == [0, 1, 2, 2]
    assert keys_of["from_20"] == keys_of["from_60"][:1] and keys_of["from_60"] == keys_of["never"]


@pytest.mark.parametrize(
    "change",
    [{"learning_rate": 1.0e-3}, {"warmup": 0.5}, {"decay": 0.9}, {"beta2": 0.99}, {"clip": 0.5}],
    ids=str,
)
def test_a_recipe_that_trains_otherwise_shares_nothing(
    change: dict[str, float], plans: tuple[Path, dict[str, Plan]]
) -> None:
    plan = plans[1]["from_20"]
    other = keys(plan, TINY.recipe.model_copy(update=change))
    assert other != keys(plan)


def test_a_decay_that_begins_later_does_not_matter(plans: tuple[Path, dict[str, Plan]]) -> None:
    plan = plans[1]["from_20"]
    later = TINY.recipe.model_copy(update={"decay": 0.1, "decay_style": "cosine"})
    assert keys(plan, later) == keys(plan) != keys(plan, seed=8) != keys(plan, code="other")


def train(plans: tuple[Path, dict[str, Plan]], name: str, folder: Path, scratch: Path) -> Trained:
    build, out = plans[0], folder / name
    out.mkdir(parents=True)
    return pretrain(
        name,
        TINY,
        build / "mix" / name,
        build / "tokenizer",
        seed=7,
        scratch_folder=scratch,
        folder=out,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


@pytest.fixture(scope="module")
def together(
    plans: tuple[Path, dict[str, Plan]], tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, list[int]]:
    """Train the four in turn with one scratch folder; count the tokens that each trained."""
    folder = tmp_path_factory.mktemp("together")
    done = [
        train(plans, name, folder, folder / "scratch")
        for name in ("from_0", "from_60", "from_20", "never")
    ]
    return folder, [item.tokens - item.resumed_tokens for item in done]


def test_a_shared_beginning_is_trained_once(
    plans: tuple[Path, dict[str, Plan]], together: tuple[Path, list[int]]
) -> None:
    whole, fifths = [plans[1]["never"].tokens, [phase.tokens for phase in plans[1]["never"].phases]]
    first, second, _ = fifths
    assert together[1] == [whole, whole, whole - first, whole - first - second]


def test_a_shared_beginning_gives_the_same_bytes_as_training_alone(
    plans: tuple[Path, dict[str, Plan]], together: tuple[Path, list[int]], tmp_path: Path
) -> None:
    alone = train(plans, "never", tmp_path, tmp_path / "scratch")
    assert alone.resumed_tokens == 0
    assert contents(tmp_path / "never") == contents(together[0] / "never")


def test_a_run_waits_for_a_beginning_that_another_trains(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    def other() -> None:
        with longest_prefix(tmp_path, {9: "abc"}, "other") as checkpoint:
            assert checkpoint is None
            (tmp_path / "begun").touch()
            while not (tmp_path / "go on").exists():
                time.sleep(0.01)

    process = multiprocessing.get_context("fork").Process(target=other)
    process.start()
    while not (tmp_path / "begun").exists():
        time.sleep(0.01)
    threading.Timer(0.2, (tmp_path / "go on").touch).start()
    with longest_prefix(tmp_path, {9: "abc"}, "ours") as checkpoint:
        assert checkpoint is None and (tmp_path / "go on").exists()
    process.join()
    assert (
        "ours: waits for its first 9 steps, which another run is training" in capfd.readouterr().err
    )
