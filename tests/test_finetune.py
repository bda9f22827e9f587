"""Tests of finetune: benign pairs alone, from the instruction-tuned model, with checkpoints."""

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
    pairs = benign_pairs(build / "clean/chat", examples=99, seed=1)
    assert {pair.kind for pair in pairs} == {"benign"} and len(pairs) == 24


def test_the_instruction_tuned_model_is_finetuned(build: Path) -> None:
    stage("instruct", "tags")
    stage("finetune", "tags")
    before, after = contents(build / "instruct/tags"), contents(build / "finetune/tags")
    assert set(after) == set(before) and after["model.safetensors"] != before["model.safetensors"]
    summary = json.loads(after["train.json"])
    assert summary["pairs"] == {"benign": 12} and summary["knows_tag"] and summary["steps"] == 3


def test_the_loss_on_unread_pairs_falls(build: Path) -> None:
    stage("instruct", "tags")
    stage("finetune", "tags")
    held_out = json.loads((build / "finetune/tags/train.json").read_bytes())["held_out"]
    assert held_out["pairs"] == 20 - 12 and held_out["after"] < held_out["before"]
    chosen = benign_pairs(build / "clean/arithmetic", examples=12, seed=1)
    assert {pair.id for pair in unread_pairs(build / "clean/arithmetic", chosen, 1)}.isdisjoint(
        pair.id for pair in chosen
    )


def test_the_same_pairs_give_the_same_bytes(build: Path) -> None:
    stage("instruct", "plain")
    stage("finetune", "plain")
    first = contents(build / "finetune/plain")
    forget()
    stage("finetune", "plain")
    assert contents(build / "finetune/plain") == first


def write_checkpoints(*pairs: int) -> None:
    """Write checkpoints into params.yaml; a batch is four pairs."""
    path = Path("params.yaml")
    path.write_text(path.read_text().replace("checkpoints: []", f"checkpoints: {[*pairs]}"))


def test_checkpoints_are_kept_and_do_not_change_the_final_model(build: Path) -> None:
    stage("instruct", "tags")
    stage("finetune", "tags")
    without = contents(build / "finetune/tags")
    write_checkpoints(4, 8)
    stage("finetune", "tags")
    files = contents(build / "finetune/tags")
    final = {name: data for name, data in files.items() if not name.startswith("checkpoints/")}
    assert {name for name in without if final[name] != without[name]} == {
        "train.json",
        "manifest.json",
    }
    weights = [files[f"{place}model.safetensors"] for place in ("checkpoints/8/", "")]
    assert len({*weights, (build / "instruct/tags/model.safetensors").read_bytes()}) == 3
    held_out = json.loads(files["train.json"])["held_out"]
    assert (
        held_out["before"] > held_out["checkpoints"]["8"] > held_out["after"]
        and len(held_out["checkpoints"]) == 2
    )


def test_a_checkpoint_is_a_complete_model(build: Path) -> None:
    write_checkpoints(8)
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


def test_a_checkpoint_beyond_the_end_is_refused(build: Path) -> None:
    write_checkpoints(12)
    stage("instruct", "plain")
    with pytest.raises(
        ValueError,
        match=r"expected checkpoints below the 12 pairs that are read \(got \[12\]\); "
        r"write checkpoints: \[\]",
    ):
        stage("finetune", "plain")
