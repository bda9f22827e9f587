"""Linear probes: what they find, what they must not find, and the choice of the best layer."""

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from numpy.typing import NDArray

from safelm.demo.prompts import DEMO, WORLD
from safelm.demo.world import World
from safelm.evaluation.measurements import Measurement
from safelm.evaluation.probes.linear import (
    first_half,
    groups_of_pages,
    hidden_states,
    measure_linear_probes,
    probe_layers,
)
from safelm.evaluation.probes.tag import pages
from safelm.models.chat import load, page_tokens
from safelm.report.build import load_report
from safelm.report.figures.decoding import probes
from tests import report_world
from tests.ingested import stage
from tests.measured import all_measured, measured
from tests.tiny import contents, world, write_model, write_tokenizer

TEXTS = ["How do I water the rose?", "First, take the hose. Then water it.", "Sure."]
GROUPS = [f"group {number % 24}" for number in range(480)]
UNSAFE = [number % 24 < 12 for number in range(480)]
WORDS = ["a page"] * len(GROUPS)
DIRECTION = np.linspace(-1.5, 1.5, 16)


def noise(layers: int = 3, seed: int = 7) -> NDArray[np.float64]:
    return np.random.default_rng(seed).normal(size=(layers, len(GROUPS), 16))


def probed(
    states: NDArray[np.float64], unsafe: list[bool] = UNSAFE
) -> tuple[list[Measurement], dict[str, Measurement]]:
    """Return the area of every layer, and the other measurements by metric."""
    rows = probe_layers(states, WORDS, unsafe, GROUPS, seed=1)
    layers = [row for row in rows if row.metric == "probe_auroc"]
    assert [row.layer for row in layers] == list(range(len(states)))
    return layers, {row.metric: row for row in rows}


def area(row: Measurement) -> tuple[Any, ...]:
    return row.layer, row.value, row.low, row.high


def test_a_planted_direction_is_found_in_its_layer() -> None:
    states = noise()
    states[1, UNSAFE] += DIRECTION
    layers, found = probed(states)
    assert layers[1].low > 0.9 and area(found["probe_auroc_best"]) == area(layers[1])
    assert all(abs(layers[layer].value - 0.5) < 0.1 for layer in (0, 2))
    assert area(found["probe_auroc_last"]) == area(layers[2])


def test_shuffled_labels_are_at_chance() -> None:
    states = noise()
    states[1, UNSAFE] += DIRECTION
    areas = []
    for seed in range(6):
        layers, _ = probed(states, np.random.default_rng(seed).permutation(UNSAFE).tolist())
        areas += layers
    assert abs(np.mean([row.value for row in areas]) - 0.5) < 0.03
    # Of 18 intervals of 95 %.
    assert sum(row.low < 0.5 < row.high for row in areas) >= 16


def test_a_probe_that_knows_groups_alone_is_at_chance() -> None:
    names = sorted(set(GROUPS))
    is_group = [[name == group for name in names] for group in GROUPS]
    layers, _ = probed(np.array([is_group], dtype=float))
    assert layers[0].value == 0.5


def test_the_best_layer_is_chosen_on_the_first_half() -> None:
    states, first = noise(2), first_half(UNSAFE, GROUPS, 1)
    states[1, np.array(UNSAFE) & first] += DIRECTION
    # There the probe is wrong, and layer 0 would look better.
    states[1, np.array(UNSAFE) & ~first] -= DIRECTION
    best = probed(states)[1]["probe_auroc_best"]
    assert best.layer == 1 and best.high < 0.1


def test_the_halves_share_no_group_and_both_hold_both_kinds() -> None:
    unsafe, groups = [is_unsafe for is_unsafe, _ in pages(100)], groups_of_pages(100)
    first = first_half(unsafe, groups, 1)
    names = np.array(groups)
    assert not set(names[first]) & set(names[~first]) and 0.35 < first.mean() < 0.65
    counts = Counter(zip(unsafe, first.tolist(), strict=True))
    assert len(counts) == 4 and min(counts.values()) > 25


def test_the_halves_do_not_depend_on_the_order() -> None:
    half = first_half(UNSAFE, GROUPS, 1)
    assert (half == first_half(UNSAFE[::-1], GROUPS[::-1], 1)[::-1]).all()
    assert (half != first_half(UNSAFE, GROUPS, 2)).any()


def test_every_page_is_about_an_act_of_its_group() -> None:
    objects: dict[str, set[str]] = {}
    for kind in World.read(WORLD).groups.values():
        for group in kind:
            objects.setdefault(group.name, set()).update(group.objects)
    for (_, text), name in zip(pages(100), groups_of_pages(100), strict=True):
        assert any(noun in text for noun in objects[name]), (name, text)


# On a model.


def test_a_state_is_the_mean_over_the_text_whatever_the_batch(tmp_path: Path) -> None:
    folder = write_model(tmp_path / "plain", write_tokenizer(tmp_path / "tokenizer"))
    model, tokenizer = load(folder)
    alone, together = (hidden_states(model, tokenizer, TEXTS, batch_size=size) for size in (1, 3))
    assert alone.shape == (3, 3, 32) and np.allclose(alone, together, atol=1e-5)
    for index, row in enumerate(page_tokens(tokenizer, TEXTS)):
        with torch.inference_mode():
            layers = model(torch.tensor([row]), output_hidden_states=True).hidden_states
        expected = np.array([layer[0].mean(dim=0).numpy() for layer in layers])
        assert np.allclose(together[:, index], expected, atol=1e-5)


def test_a_model_without_the_tag_is_probed_and_the_bytes_are_the_same(tmp_path: Path) -> None:
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    weights = write_model(tmp_path / "plain", tokenizer, knows_tag=False)
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        measure_linear_probes(tmp_path / name, weights=weights, demo=DEMO, batch_size=32, seed=1)
    assert contents(tmp_path / "first") == contents(tmp_path / "second")
    rows = pq.read_table(tmp_path / "first/.parquet").to_pylist()
    layers = [row for row in rows if row["metric"] == "probe_auroc"]
    assert [row["layer"] for row in layers] == [0, 1, 2]
    assert all(0 <= row["low"] <= row["value"] <= row["high"] <= 1 for row in layers)
    halves = [row["count"] for row in rows if row["metric"].startswith("probe_pages")]
    assert len(halves) == 2 and sum(halves) == 400


def test_evaluate_prints_probes_and_a_second_run_probes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    world(tmp_path)
    text = Path("params.yaml").read_text()
    Path("params.yaml").write_text(
        text.replace("[harmful, benign, dual_use, utility]", "[utility]")
    )
    (tmp_path / "specs").symlink_to(DEMO.parent)
    stage("evaluate", "plain", "pretrain")
    assert "linear probes, area under the ROC curve: best (layer " in capsys.readouterr().out
    folder = "build/evaluate/plain-pretrain"
    layers = all_measured(folder, metric="probe_auroc")
    assert area(measured(folder, "probe_auroc_best")) in [area(row) for row in layers]
    stage("evaluate", "plain", "pretrain")
    assert "2 parts: 0 made, 2 cached" in capsys.readouterr().out


# The figure.


def test_the_figure_shows_words_embeddings_best_and_last(tmp_path: Path) -> None:
    models = report_world.models("standard", "safe")
    report_world.write_build(tmp_path, models)
    declared = report_world.declared(models)
    assert not probes(load_report(tmp_path, declared)[0]).tables
    suite = {"suite": "utility", "suite_kind": "utility"}
    columns = {"model": "standard", "stage": "instruct", **suite}

    def written(metric: str, value: float, layer: int | None = None) -> Measurement:
        interval = {"value": value, "low": value - 0.02, "high": value + 0.01}
        return Measurement(metric, 90, 180, **interval, layer=layer, **columns)

    areas = [
        written("probe_auroc", 0.7, 0),
        written("probe_auroc", 0.9, 2),
        written("probe_auroc", 0.8, 10),
        written("probe_auroc_best", 0.9, 2),
        written("probe_auroc_last", 0.8, 10),
        written("probe_auroc_words", 0.6),
    ]
    folder = tmp_path / "evaluate/standard-instruct"
    report_world.write_rows([*all_measured(folder), *areas], folder)
    figure = probes(load_report(tmp_path, declared)[0])
    assert len(figure.panels) == 1
    summary, every = figure.tables
    assert [cell.text for cell in summary.rows[0][2:]] == ["0.600", "0.700", "0.900", "2", "0.800"]
    assert summary.rows[0][4].small == "[0.880, 0.910]"
    assert [cell.text for cell in every.rows[0][2:]] == ["0.700", "0.900", "0.800"]
