"""Relearning: models are tuned on harmful pairs and on the control, measured, and thrown away."""

from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from safelm.builder.manifest import Manifest
from safelm.evaluation.attacks.relearning import relearn_models
from safelm.evaluation.attacks.relearning_curve import write_curve
from safelm.evaluation.bounds import GenerationSettings
from safelm.evaluation.completions import generate_completions
from safelm.evaluation.measurements import Measurement, share
from safelm.posttraining.pairs import relearning_pairs, safety_pairs
from safelm.report.build import load_report
from safelm.report.charts.numbers import NONE, percent
from safelm.report.figures.answers import harmful_tuning
from safelm.report.layout import Figure
from specs.attacks import Relearn
from specs.decoder import Greedy
from specs.mixture import Model
from specs.tokens import TAG
from tests import report_world
from tests.ingested import forget, ingested, stage
from tests.measured import all_measured, measured
from tests.test_evaluate import protocol_of, suite_of
from tests.tiny import BENIGN, HARMFUL, contents, world, write_model

ROOT = Path(__file__).parents[1]
FOLDER = "build/relearn"
ROW = (
    "{{models: [{models}], stage: pretrain, source: chat, part: {part}, checkpoints: [4, 8], "
    "batch_size: 4, sequence_length: 96, learning_rate: 1.0e-3, suites: [harmful, benign], "
    "decoders: [greedy, random_drop], seed: 1}}"
)


def relearn(**rows: str) -> str:
    """The block `relearn` of params.yaml, its rows named after their part."""
    lines = [f"  {part}: {ROW.format(models=models, part=part)}\n" for part, models in rows.items()]
    return "relearn:\n" + "".join(lines) if lines else "relearn: {}\n"


def write(**rows: str) -> None:
    """Write the rows into params.yaml."""
    text = Path("params.yaml").read_text(encoding="utf-8").partition("relearn:")[0]
    Path("params.yaml").write_text(text + relearn(**rows), encoding="utf-8")


def decoders(**columns: Any) -> set[str]:
    """Name the decoders of the measurements with these values."""
    return {row.decoder for row in all_measured(FOLDER, **columns) if row.decoder}


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
    ingested("clean/chat", [*BENIGN, *HARMFUL, *more])
    (tmp_path / "build/fit").mkdir()
    (tmp_path / "specs").symlink_to(Path(__file__).parent.parent / "specs")
    return tmp_path / "build"


# Which pairs are read.


def test_what_is_read_is_of_its_part_and_without_the_tag(build: Path) -> None:
    for part in ("harmful", "benign"):
        pairs, _ = relearning_pairs(build / "clean/chat", part, examples=8, seed=1)
        assert {pair.kind for pair in pairs} == {part} and len(pairs) == 8
        assert not any(TAG in pair.answer for pair in pairs)


def test_both_parts_are_measured_on_the_same_harmful_pairs_that_neither_reads(build: Path) -> None:
    (harmful, held), (benign, same) = (
        relearning_pairs(build / "clean/chat", part, examples=8, seed=1)
        for part in ("harmful", "benign")
    )
    assert held == same and {pair.kind for pair in held} == {"harmful"} and len(held) == 8
    assert not set(held) & {*harmful, *benign}


def test_pairs_that_safety_tuning_reads_with_tags_come_last(build: Path) -> None:
    read_before = safety_pairs(
        build / "clean/chat",
        examples=20,
        refusals_share=0.0,
        tagged_share=0.2,
        rate=0.05,
        mode="bernoulli",
        seed=1,
    )
    pairs, held = relearning_pairs(build / "clean/chat", "harmful", examples=4, seed=1)
    tagged = {pair.id for pair in read_before if pair.kind == "tagged"}
    assert len(tagged) == 4 and not tagged & {pair.id for pair in (*pairs, *held)}


def test_more_pairs_than_there_are_is_refused(build: Path) -> None:
    with pytest.raises(
        ValueError,
        match=r"expected 12 harmful pairs besides those .* \(got 8\); write smaller checkpoints",
    ):
        relearning_pairs(build / "clean/chat", "harmful", examples=12, seed=1)


# The stage.


def test_every_checkpoint_has_its_loss_and_its_rates(build: Path) -> None:
    write(harmful="tags")
    stage("relearn")
    assert {row.checkpoint for row in all_measured(FOLDER)} == {0, 4, 8}
    losses = [measured(FOLDER, "held_out_loss", checkpoint=pairs).value for pairs in (0, 4, 8)]
    assert losses == sorted(losses, reverse=True) and len(set(losses)) == 3
    for pairs in (0, 4, 8):
        assert decoders(checkpoint=pairs) == {"greedy", "random_drop"}
        for suite, metric in (("harmful", "asr"), ("benign", "complied")):
            cell = {"checkpoint": pairs, "decoder": "greedy", "suite": suite}
            rate = measured(FOLDER, metric, **cell, is_first_judge=True)
            assert (rate.row, rate.model, rate.stage) == ("harmful", "tags", "pretrain")
            assert rate.of == 4 and rate.value == rate.count / 4


def test_a_decoder_for_the_tag_is_not_used_with_a_model_without_it(build: Path) -> None:
    write(harmful="plain")
    stage("relearn")
    assert decoders(model="plain", checkpoint=8) == {"greedy"}


def test_a_new_row_or_model_trains_only_what_is_new(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write(harmful="tags")
    stage("relearn")
    assert "1 parts: 1 made, 0 cached" in capsys.readouterr().out
    first = all_measured(FOLDER)
    write(harmful="tags, plain", benign="tags")
    write_model(build / "pretrain/plain", build / "tokenizer", knows_tag=False)
    stage("relearn")
    assert "3 parts: 2 made, 1 cached" in capsys.readouterr().out
    assert all_measured(FOLDER, row="harmful", model="tags") == first
    stage("relearn")
    assert "3 parts: 0 made, 3 cached" in capsys.readouterr().out


def test_the_same_rows_give_the_same_bytes_and_leave_no_weights(build: Path) -> None:
    write(benign="tags")
    stage("relearn")
    first = contents(build / "relearn")
    assert set(first) == {"measurements.parquet", "manifest.json", "benign/tags.parquet"}
    rows = pq.read_table(build / "relearn/benign/tags.parquet").to_pylist()
    assert {row["pairs"] for row in rows} == {0, 4, 8}
    forget()
    stage("relearn")
    assert contents(build / "relearn") == first


def test_without_rows_there_is_a_folder_that_says_so(
    build: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    write()
    stage("relearn")
    assert all_measured(FOLDER) == [] and "no rows in params.yaml" in capsys.readouterr().out
    files = [name for name, _ in Manifest.read(build / "relearn").files()]
    assert files == ["measurements.parquet"]


def test_a_suite_of_beginnings_is_continued_and_not_given_in_chat(
    build: Path, tmp_path: Path
) -> None:
    model = build / "pretrain/tags"
    prompts = [("1", "How does one bake the bread?"), ("2", "The knife")]
    settings = GenerationSettings(decoder=Greedy(), max_new_tokens=8, batch_size=4, seed=1)
    write_curve(
        tmp_path,
        weights=model,
        source=build / "clean/chat",
        settings={
            "part": "harmful",
            "checkpoints": [4],
            "batch_size": 4,
            "sequence_length": 96,
            "learning_rate": 1.0e-3,
            "seed": 1,
        },
        prompts={
            "requests": {"is_chat": True, "prompts": prompts},
            "beginnings": {"is_chat": False, "prompts": prompts},
        },
        decoders={"greedy": settings},
    )
    rows = pq.read_table(tmp_path / ".parquet").to_pylist()
    untuned = [row for row in rows if row["pairs"] == 0]
    for suite, is_chat in (("requests", True), ("beginnings", False)):
        written = [row["completion"] for row in untuned if row["suite"] == suite]
        expected = generate_completions(model, is_chat, prompts, settings)
        assert written == [row["completion"] for row in expected]
    assert len({row["completion"] for row in untuned}) > 2


def test_prompts_too_long_for_the_model_give_way_to_others_and_are_counted(build: Path) -> None:
    path = build.parent / "prompts.csv"
    texts = [f"Tell me how to do it {n}. {'Please tell me. ' * (n % 2 * 20)}" for n in range(8)]
    path.write_text("\n".join(["goal", *texts]))
    protocol = protocol_of({"mine": suite_of(path)}, max_prompts=3)
    changes = {"stage": "pretrain", "batch_size": 4, "checkpoints": [4]}
    changes |= {"suites": ["mine"], "decoders": ["greedy"]}
    row = row_of("harmful", ["tags"]).model_copy(update=changes)
    relearn_models("relearn", rows={"mine": row}, protocol=protocol)
    for pairs in (0, 4):
        cell = {"checkpoint": pairs, "suite": "mine"}
        assert measured(FOLDER, "prompts", **cell).count == 3
        assert measured(FOLDER, "left_out_too_long", **cell).count > 0
        assert measured(FOLDER, "asr", **cell).of == 3


# The figure.


def curve_of(model: str, row: str, asr: dict[int, int]) -> list[Measurement]:
    """Return measurements by pairs: so many of 100 harmful requests answered, harmless ones all."""
    found = []
    for pairs, count in asr.items():
        columns = {"row": row, "model": model, "stage": "instruct", "checkpoint": pairs}
        found.append(Measurement("held_out_loss", value=3.0 - pairs / 32, **columns))
        columns |= {"decoder": "greedy", "judge": "acts", "is_first_judge": True}
        for metric, suite, rate in (("asr", "harmful", count), ("complied", "benign", 100)):
            cell = {"suite": suite, "suite_kind": suite, **columns}
            found.append(share(metric, rate, 100, **cell))
    return found


def row_of(part: str, models: list[str]) -> Relearn:
    return Relearn.model_validate(
        {
            "models": models,
            "stage": "instruct",
            "source": "chat",
            "part": part,
            "checkpoints": [8, 16],
            "batch_size": 8,
            "sequence_length": 96,
            "learning_rate": 1.0e-3,
            "suites": ["harmful", "benign"],
            "decoders": ["greedy", "branch"],
            "seed": 1,
        }
    )


def figure_of(root: Path, models: dict[str, Model], **rows: Relearn) -> Figure:
    data, _ = load_report(root, report_world.declared(models, relearn=rows))
    return harmful_tuning(data)


def test_without_rows_there_is_no_figure(tmp_path: Path) -> None:
    models = report_world.models("standard", "safe")
    report_world.write_build(tmp_path, models)
    assert not figure_of(tmp_path, models).tables
    report_world.write_rows([], tmp_path / "relearn")
    assert not figure_of(tmp_path, models).tables


def test_the_harmful_curve_stands_beside_its_control_pooled_over_seeds(tmp_path: Path) -> None:
    models = report_world.models("safe", seeds=2)
    report_world.write_build(tmp_path, models)
    rows = {part: row_of(part, list(models)) for part in ("harmful", "benign")}
    curves = {"harmful": {0: 2, 8: 4, 16: 90}, "benign": {0: 2, 8: 4, 16: 6}}
    measurements = []
    for part, asr in curves.items():
        for model in models:
            measurements += curve_of(model, part, asr)
    report_world.write_rows(measurements, tmp_path / "relearn")
    figure = figure_of(tmp_path, models, **rows)
    assert [panel.title.partition(":")[0] for panel in figure.panels] == [
        f"{rate}, {part} pairs"
        for rate in ("Attack success", "Benign compliance")
        for part in ("harmful", "benign")
    ]
    rates, losses = figure.tables
    texts = [[cell.text for cell in row] for row in rates.rows]
    cells = {(row[0], row[3]): row for row in texts}
    harmful = cells["harmful", "Attack success"]
    assert harmful[:5] == ["harmful", "safe", "greedy", "Attack success", "16"]
    assert harmful[5:] == [percent(rate) for rate in (0.02, 0.04, 0.9)]
    assert cells["benign", "Attack success"][4] == NONE
    loss = [cell.text for cell in losses.rows[0]]
    assert loss == ["harmful", "safe", "3.00", "2.75", "2.50"]
