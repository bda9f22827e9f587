"""Linear probes: what they find, what they must not find, and that the second half is never looked
at to choose.
"""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from safelm.demo.prompts import DEMO, WORLD
from safelm.demo.world import World
from safelm.evaluation.probes.linear import halves, hidden_states, probe, probed, subjects
from safelm.evaluation.probes.tag import pages
from safelm.models.chat import load, page_tokens
from safelm.report.figures.linear_probes import probes
from tests import report_world
from tests.ingested import stage
from tests.test_report_schedules import read
from tests.tiny import contents, world, write_model, write_tokenizer

TEXTS = ["How do I water the rose?", "First, take the hose. Then water it.", "Sure."]
GROUPS = [f"group {number % 24}" for number in range(480)]
UNSAFE = [number % 24 < 12 for number in range(480)]
WORDS = ["a page"] * len(GROUPS)
DIRECTION = np.linspace(-1.5, 1.5, 16)


def noise(layers: int = 3, seed: int = 7) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(layers, len(GROUPS), 16))


def found(states: NDArray[np.float64], unsafe: list[bool] = UNSAFE) -> dict[str, Any]:
    return probed(states, WORDS, unsafe, GROUPS, seed=1)


def test_a_planted_direction_is_found_in_its_layer() -> None:
    states = noise()
    states[1, UNSAFE] += DIRECTION
    told = found(states)
    assert told["layers"]["1"]["low"] > 0.9 and told["best"] == {
        "layer": 1,
        "area": told["layers"]["1"],
    }
    assert all(abs(told["layers"][layer]["value"] - 0.5) < 0.1 for layer in ("0", "2"))
    assert told["last"] == told["layers"]["2"]


def test_shuffled_labels_are_at_chance() -> None:
    states = noise()
    states[1, UNSAFE] += DIRECTION
    shuffled = (np.random.default_rng(seed).permutation(UNSAFE).tolist() for seed in range(6))
    areas = [area for unsafe in shuffled for area in found(states, unsafe)["layers"].values()]
    assert abs(np.mean([area["value"] for area in areas]) - 0.5) < 0.03
    assert sum(area["low"] < 0.5 < area["high"] for area in areas) >= 16  # of 18 intervals of 95 %


def test_a_probe_that_knows_groups_alone_is_at_chance() -> None:
    names = sorted(set(GROUPS))
    states = np.array([[[name == group for name in names] for group in GROUPS]], dtype=float)
    assert found(states)["layers"]["0"]["value"] == 0.5


def test_the_best_layer_is_chosen_on_the_first_half() -> None:
    states, first = noise(2), halves(UNSAFE, GROUPS, 1)
    states[1, np.array(UNSAFE) & first] += DIRECTION
    states[1, np.array(UNSAFE) & ~first] -= (
        DIRECTION  # there the probe is wrong, and layer 0 would look better
    )
    best = found(states)["best"]
    assert best["layer"] == 1 and best["area"]["high"] < 0.1


def test_the_halves_share_no_group_and_both_hold_both_kinds() -> None:
    unsafe, groups = [is_unsafe for is_unsafe, _ in pages(100)], subjects(100)
    first = halves(unsafe, groups, 1)
    sides = [
        {group for group, here in zip(groups, first, strict=True) if here == side}
        for side in (True, False)
    ]
    assert not sides[0] & sides[1] and 0.35 < first.mean() < 0.65
    counts = Counter(zip(unsafe, first.tolist(), strict=True))
    assert len(counts) == 4 and min(counts.values()) > 25


def test_the_halves_do_not_depend_on_the_order() -> None:
    backwards = halves(UNSAFE[::-1], GROUPS[::-1], 1)[::-1]
    assert (halves(UNSAFE, GROUPS, 1) == backwards).all() and (
        halves(UNSAFE, GROUPS, 2) != backwards
    ).any()


def test_every_page_is_about_an_act_of_its_group() -> None:
    objects: dict[str, set[str]] = {}
    for kind in World.read(WORLD).groups.values():
        for group in kind:
            objects.setdefault(group.name, set()).update(group.objects)
    for (_, text), name in zip(pages(100), subjects(100), strict=True):
        assert any(noun in text for noun in objects[name]), (name, text)


# ── on a model ──


def test_a_state_is_the_mean_over_the_text_whatever_the_batch(tmp_path: Path) -> None:
    model, tokenizer = load(
        write_model(tmp_path / "plain", write_tokenizer(tmp_path / "tokenizer"))
    )
    alone, together = (hidden_states(model, tokenizer, TEXTS, batch=batch) for batch in (1, 3))
    assert alone.shape == (3, 3, 32) and np.allclose(alone, together, atol=1e-5)
    for place, row in enumerate(page_tokens(tokenizer, TEXTS)):
        with torch.inference_mode():
            layers = model(torch.tensor([row]), output_hidden_states=True).hidden_states
        expected = np.array([layer[0].mean(dim=0).numpy() for layer in layers])
        assert np.allclose(together[:, place], expected, atol=1e-5)


def test_a_model_without_the_tag_is_probed_and_the_bytes_are_the_same(tmp_path: Path) -> None:
    model = write_model(
        tmp_path / "plain", write_tokenizer(tmp_path / "tokenizer"), knows_tag=False
    )
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        probe(tmp_path / name, model=model, demo=DEMO, batch=32, seed=1)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    told = json.loads((tmp_path / "first/.json").read_bytes())
    assert set(told["layers"]) == {"0", "1", "2"} and sum(told["pages"].values()) == 400
    assert all(
        0 <= area["low"] <= area["value"] <= area["high"] <= 1 for area in told["layers"].values()
    )


def test_evaluate_tells_of_probes_and_asks_a_known_model_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    world(tmp_path)
    text = (
        Path("params.yaml").read_text().replace("[harmful, benign, dual_use, utility]", "[utility]")
    )
    Path("params.yaml").write_text(text)
    (tmp_path / "specs").symlink_to(DEMO.parent)
    stage("evaluate", "plain", "pretrain")
    assert "linear probe, area under the ROC curve: layer " in capsys.readouterr().out
    metrics = json.loads(Path("build/evaluate/plain-pretrain/metrics.json").read_bytes())
    assert (
        metrics["utility"]["probe"]["best"]["area"]
        in metrics["utility"]["probe"]["layers"].values()
    )
    stage("evaluate", "plain", "pretrain")
    assert "2 parts: 0 made, 2 known" in capsys.readouterr().out


# ── the figure ──


def area(value: float) -> dict[str, Any]:
    return {"value": value, "low": value - 0.02, "high": value + 0.01, "unsafe": 90, "safe": 90}


def test_the_figure_shows_words_embeddings_best_and_last(tmp_path: Path) -> None:
    models = report_world.models("standard", "safe")
    report_world.write_build(tmp_path, models)
    assert probes(read(tmp_path, report_world.mixtures(), models)) is None
    path = tmp_path / "evaluate/standard-instruct/metrics.json"
    metrics = json.loads(path.read_bytes())
    layers = {"0": area(0.7), "10": area(0.8), "2": area(0.9)}
    metrics["utility"]["probe"] = {
        "layers": layers,
        "best": {"layer": 2, "area": layers["2"]},
        "last": layers["10"],
        "words": area(0.6),
    }
    report_world.write(path, metrics)
    figure = probes(read(tmp_path, report_world.mixtures(), models))
    assert figure is not None and len(figure.panels) == 1
    summary, every = figure.tables
    assert [cell.text for cell in summary.rows[0][2:]] == ["0.600", "0.700", "0.900", "2", "0.800"]
    assert summary.rows[0][4].small == "[0.880, 0.910]"
    assert [cell.text for cell in every.rows[0][2:]] == ["0.700", "–", "0.900", *["–"] * 7, "0.800"]
