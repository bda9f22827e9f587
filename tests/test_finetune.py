"""Benign finetuning: it reads requests of no hazard alone, and goes on from the instruction-tuned
model.
"""

import json
from pathlib import Path

import pytest
from transformers import AutoModelForCausalLM

from safelm.posttraining.pairs import benign_pairs, unread_pairs
from tests.ingested import forget, stage
from tests.tiny import contents, world


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    world(tmp_path)
    return tmp_path / "build"


def test_only_harmless_requests_are_read(build: Path) -> None:
    pairs = benign_pairs(build / "ingest/chat", examples=99, seed=1)
    assert {pair.kind for pair in pairs} == {"benign"} and len(pairs) == 24


def test_the_instruction_tuned_model_is_finetuned(build: Path) -> None:
    stage("instruct", "tags")
    stage("finetune", "tags")
    before, after = contents(build / "instruct/tags"), contents(build / "finetune/tags")
    assert set(after) == set(before) and after["model.safetensors"] != before["model.safetensors"]
    summary = json.loads(after["train.json"])
    assert summary["pairs"] == {"benign": 12} and summary["knows_tag"] and summary["steps"] == 3


def test_the_loss_on_pairs_that_are_not_read_falls(build: Path) -> None:
    stage("instruct", "tags")
    stage("finetune", "tags")
    held = json.loads((build / "finetune/tags/train.json").read_bytes())["held_out"]
    assert held["pairs"] == 20 - 12 and held["after"] < held["before"]
    chosen = benign_pairs(build / "ingest/arithmetic", examples=12, seed=1)
    assert {pair.id for pair in unread_pairs(build / "ingest/arithmetic", chosen, 1)}.isdisjoint(
        pair.id for pair in chosen
    )


def test_the_same_pairs_give_the_same_bytes(build: Path) -> None:
    stage("instruct", "plain")
    stage("finetune", "plain")
    first = contents(build / "finetune/plain")
    forget()
    stage("finetune", "plain")
    assert contents(build / "finetune/plain") == first


def keep(*pairs: int) -> None:
    """Write checkpoints into params.yaml; a batch is four pairs."""
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("checkpoints: []", f"checkpoints: {[*pairs]}"))


def test_the_model_is_kept_along_the_way_and_its_end_is_the_same(build: Path) -> None:
    stage("instruct", "tags")
    stage("finetune", "tags")
    alone = contents(build / "finetune/tags")
    keep(4, 8)
    stage("finetune", "tags")
    found = contents(build / "finetune/tags")
    ends = {name: data for name, data in found.items() if not name.startswith("checkpoints/")}
    assert {name for name in alone if ends[name] != alone[name]} == {"train.json", "manifest.json"}
    weights = [found[f"{place}model.safetensors"] for place in ("checkpoints/8/", "")]
    assert len({*weights, (build / "instruct/tags/model.safetensors").read_bytes()}) == 3
    held = json.loads(found["train.json"])["held_out"]
    assert held["before"] > held["doses"]["8"] > held["after"] and len(held["doses"]) == 2


def test_what_is_kept_is_a_whole_model(build: Path) -> None:
    keep(8)
    stage("instruct", "tags")
    stage("finetune", "tags")
    kept, end = contents(build / "finetune/tags/checkpoints/8"), contents(build / "finetune/tags")
    assert (
        kept["config.json"] == end["config.json"]
        and kept["tokenizer.json"] == end["tokenizer.json"]
    )
    assert json.loads(kept["train.json"]) == {"knows_tag": True}
    assert AutoModelForCausalLM.from_pretrained(
        build / "finetune/tags/checkpoints/8"
    ).config.use_cache


def test_a_dose_beyond_the_end_is_refused(build: Path) -> None:
    keep(12)
    stage("instruct", "plain")
    with pytest.raises(
        ValueError,
        match=r"expected checkpoints below the 12 pairs that are read \(got \[12\]\); write checkpoints: \[\]",
    ):
        stage("finetune", "plain")
