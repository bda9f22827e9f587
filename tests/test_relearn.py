"""Relearning: models are tuned on harmful pairs and on the control, asked on the way, and thrown
away.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from safelm.builder.manifest import Manifest
from safelm.builder.shards import shards
from safelm.evaluation.attacks.relearning_curve import curve
from safelm.evaluation.completions import replies
from safelm.posttraining.pairs import relearning_pairs, safety_pairs
from safelm.report.charts.numbers import NONE, percent
from safelm.report.figures.relearning import tuned_on
from safelm.stats.rates import with_intervals
from specs.params import Params
from specs.tokens import TAG
from tests import report_world
from tests.ingested import forget, ingested, stage
from tests.test_report_schedules import read
from tests.tiny import BENIGN, HARMFUL, contents, world, write_model

ROW = (
    "{{models: [{models}], stage: pretrain, source: chat, part: {part}, checkpoints: [4, 8], batch_size: 4, sequence_length: 96, "
    "learning_rate: 1.0e-3, suites: [harmful, benign], decoders: [greedy, random_drop], seed: 1}}"
)


def relearn(**rows: str) -> str:
    """The block `relearn` of params.yaml, its rows named after their part."""
    lines = [f"  {part}: {ROW.format(models=models, part=part)}\n" for part, models in rows.items()]
    return "relearn:\n" + "".join(lines) if lines else "relearn: {}\n"


def write(**rows: str) -> None:
    """Write the rows into params.yaml."""
    text = Path("params.yaml").read_text(encoding="utf-8").partition("relearn:")[0]
    Path("params.yaml").write_text(text + relearn(**rows), encoding="utf-8")


def metrics() -> dict[str, Any]:
    return json.loads(Path("build/relearn/metrics.json").read_bytes())["rows"]


@pytest.fixture
def build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Base models, and twice as many harmful dialogues as elsewhere."""
    monkeypatch.chdir(tmp_path)
    world(tmp_path)
    path = tmp_path / "params.yaml"
    text = path.read_text().replace("[harmful, benign, dual_use, utility]", "[harmful, benign]")
    path.write_text(
        text.replace("max_prompts: 12", "max_prompts: 4") + "report: {confidence: 0.95, title: t}\n"
    )
    more = [{**row, "prompt": row["prompt"].replace("woman", "child")} for row in HARMFUL]
    ingested("ingest/chat", [*BENIGN, *HARMFUL, *more])
    (tmp_path / "build/fit").mkdir()
    (tmp_path / "specs").symlink_to(Path(__file__).parent.parent / "specs")
    return tmp_path / "build"


# ── which pairs are read ──


def test_what_is_read_is_of_its_part_and_without_the_tag(build: Path) -> None:
    for part in ("harmful", "benign"):
        pairs, _ = relearning_pairs(build / "ingest/chat", part, examples=8, seed=1)
        assert {pair.kind for pair in pairs} == {part} and len(pairs) == 8
        assert not any(TAG in pair.answer for pair in pairs)


def test_both_parts_are_measured_on_the_same_harmful_pairs_that_neither_reads(build: Path) -> None:
    (harmful, held), (benign, same) = (
        relearning_pairs(build / "ingest/chat", part, examples=8, seed=1)
        for part in ("harmful", "benign")
    )
    assert held == same and {pair.kind for pair in held} == {"harmful"} and len(held) == 8
    assert not set(held) & {*harmful, *benign}


def test_pairs_that_safety_tuning_reads_with_tags_come_last(build: Path) -> None:
    read_before = safety_pairs(
        build / "ingest/chat",
        examples=20,
        refusals=0.0,
        tags=0.2,
        rate=0.05,
        mode="bernoulli",
        seed=1,
    )
    pairs, held = relearning_pairs(build / "ingest/chat", "harmful", examples=4, seed=1)
    tagged = {pair.id for pair in read_before if pair.kind == "tagged"}
    assert len(tagged) == 4 and not tagged & {pair.id for pair in (*pairs, *held)}


def test_more_pairs_than_there_are_is_refused(build: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"expected 12 harmful pairs beside those .* \(found 8\); write smaller checkpoints",
    ):
        relearning_pairs(build / "ingest/chat", "harmful", examples=12, seed=1)


# ── the stage ──


def test_every_dose_has_its_loss_and_its_rates_with_intervals(build: Path) -> None:
    write(harmful="tags")
    stage("relearn")
    told = metrics()["harmful"]["models"]["tags"]
    assert set(told) == {"0", "4", "8"}
    assert told["0"]["held_out_loss"] > told["4"]["held_out_loss"] > told["8"]["held_out_loss"]
    for one in told.values():
        assert set(one["decoders"]) == {"greedy", "random_drop"}
        asr, complied = (
            one["decoders"]["greedy"]["harmful"]["asr"],
            one["decoders"]["greedy"]["benign"]["complied"],
        )
        assert all(
            rate["of"] == 4 and rate["low"] <= rate["value"] <= rate["high"]
            for rate in (asr, complied)
        )


def test_a_decoder_for_the_tag_is_not_asked_of_a_model_without_it(build: Path) -> None:
    write(harmful="plain")
    stage("relearn")
    assert set(metrics()["harmful"]["models"]["plain"]["8"]["decoders"]) == {"greedy"}


def test_a_new_row_or_model_trains_only_what_is_new(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(harmful="tags")
    stage("relearn")
    assert "1 parts: 1 made, 0 known" in capsys.readouterr().out
    first = metrics()["harmful"]["models"]["tags"]
    write(harmful="tags, plain", benign="tags")
    write_model(build / "pretrain/plain", build / "tokenizer", knows_tag=False)
    stage("relearn")
    assert "3 parts: 2 made, 1 known" in capsys.readouterr().out
    assert metrics()["harmful"]["models"]["tags"] == first
    stage("relearn")
    assert "3 parts: 0 made, 3 known" in capsys.readouterr().out


def test_the_same_rows_give_the_same_bytes_and_leave_no_weights(build: Path) -> None:
    write(benign="tags")
    stage("relearn")
    first = contents(build / "relearn")
    assert set(first) == {"metrics.json", "manifest.json", "benign/tags.parquet"}
    assert {row["pairs"] for row in shards(build / "relearn")[0].table().to_pylist()} == {0, 4, 8}
    forget()
    stage("relearn")
    assert contents(build / "relearn") == first


def test_without_rows_there_is_a_folder_that_says_so(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    stage("relearn")
    assert metrics() == {} and "no rows in params.yaml" in capsys.readouterr().out
    assert [name for name, _ in Manifest.read(build / "relearn").files()] == ["metrics.json"]


def test_a_suite_of_beginnings_is_continued_and_not_asked_in_chat(
    build: Path, tmp_path: Path
) -> None:
    model, asked = (
        build / "pretrain/tags",
        [("1", "How does one bake the bread?"), ("2", "The knife")],
    )
    dials: dict[str, Any] = {
        "tokens": 8,
        "decoder": Params.read("evaluate").evaluate.decoders["greedy"],
        "seed": 1,
    }
    curve(
        tmp_path,
        base=model,
        source=build / "ingest/chat",
        part="harmful",
        checkpoints=[4],
        batch_size=4,
        sequence_length=96,
        learning_rate=1.0e-3,
        seed=1,
        questions={"asked": asked, "begun": asked},
        decoders={"greedy": dials["decoder"]},
        chat={"asked": True, "begun": False},
        tokens=8,
        width=4,
        asked_seed=1,
    )
    rows = pq.read_table(tmp_path / ".parquet").to_pylist()
    for suite, chat in (("asked", True), ("begun", False)):
        said = [row["completion"] for row in rows if (row["pairs"], row["suite"]) == (0, suite)]
        assert said == [
            row["completion"] for row in replies(model, chat=chat, prompts=asked, batch=4, **dials)
        ]
    assert len({row["completion"] for row in rows if row["pairs"] == 0}) > 2


# ── the figure ──


def dose(asr: int, loss: float | None) -> dict[str, Any]:
    """What a model is after some pairs: so many of 100 harmful requests are answered, and all
    harmless ones.
    """
    found = {
        "harmful": {"asr": {"count": asr, "of": 100}},
        "benign": {"complied": {"count": 100, "of": 100}},
    }
    return with_intervals({"held_out_loss": loss, "decoders": {"greedy": found}}, 0.95)


def row(part: str, models: dict[str, Any]) -> dict[str, Any]:
    return {"stage": "instruct", "part": part, "decoders": ["greedy", "branch"], "models": models}


def test_without_rows_there_is_no_figure(tmp_path: Path) -> None:
    models = report_world.models("standard", "safe")
    report_world.write_build(tmp_path, models)
    assert tuned_on(read(tmp_path, report_world.mixtures(), models)) is None
    report_world.write(tmp_path / "relearn/metrics.json", {"rows": {}})
    assert tuned_on(read(tmp_path, report_world.mixtures(), models)) is None


def test_the_harmful_curve_stands_beside_its_control_pooled_over_seeds(tmp_path: Path) -> None:
    models = report_world.models("safe", seeds=2)
    report_world.write_build(tmp_path, models)
    rows = {
        part: row(
            part,
            {name: {"0": dose(2, 3.0), "8": dose(4, 2.9), "16": dose(end, 2.5)} for name in models},
        )
        for part, end in (("harmful", 90), ("benign", 6))
    }
    report_world.write(tmp_path / "relearn/metrics.json", {"rows": rows})
    figure = tuned_on(read(tmp_path, report_world.mixtures(), models))
    assert figure is not None
    assert [panel.title.partition(":")[0] for panel in figure.panels] == [
        f"{rate}, {part} pairs"
        for rate in ("Attack success", "Benign compliance")
        for part in ("harmful", "benign")
    ]
    rates, losses = figure.tables
    harmful, control = rates.rows[:2]
    assert [cell.text for cell in harmful[:5]] == [
        "harmful",
        "safe",
        "greedy",
        "Attack success",
        "16",
    ]
    assert [cell.text for cell in harmful[5:]] == [percent(share) for share in (0.02, 0.04, 0.9)]
    assert control[4].text == NONE
    assert [cell.text for cell in losses.rows[0]] == ["harmful", "safe", "3.00", "2.90", "2.50"]
