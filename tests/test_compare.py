"""External models: measured as ours are, and checked before their weights are read."""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from safelm.evaluation.external_models import ExternalModelError, checked_weights
from safelm.evaluation.measurements import Measurement
from safelm.models.weights import digest_of
from safelm.report.build import load_report
from safelm.report.charts.numbers import percent
from safelm.report.figures.answers import external_models
from safelm.report.summary import summary
from specs.decoder import Decoder, Greedy, SafeBeam
from specs.mixture import ExternalModel
from tests import report_world
from tests.ingested import stage
from tests.measured import all_measured, measured
from tests.tiny import PARAMS, forget_the_tag, write_model, write_tokenizer

ROOT = Path(__file__).parents[1]


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user's model beside a project: another architecture than ours, and no tag."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "specs").symlink_to(ROOT / "specs")
    tokenizer = write_tokenizer(tmp_path / "tokenizer")
    folder = write_model(tmp_path / "own", tokenizer)
    torch.manual_seed(0)
    shape = GPT2Config(
        vocab_size=320,
        n_embd=32,
        n_layer=2,
        n_head=2,
        n_positions=192,
        bos_token_id=0,
        eos_token_id=0,
    )
    GPT2LMHeadModel(shape).save_pretrained(folder)
    forget_the_tag(folder)
    return folder


def row(folder: Path, **changes: Any) -> ExternalModel:
    required = {
        "model": str(folder),
        "revision": None,
        "digest": digest_of(folder),
        "chat": True,
        "decoders": ["greedy"],
    }
    return ExternalModel.model_validate({**required, **changes})


def decoders() -> dict[str, Decoder]:
    return {
        "greedy": Greedy(),
        "safebeam": SafeBeam(beams=2, candidates=3, drop="half"),
        "random": SafeBeam(beams=2, candidates=3, drop="random"),
        "stops": Greedy(short_circuit=True),
    }


@pytest.mark.parametrize("chat", [True, False])
def test_the_stage_measures_an_external_model_as_ours(own: Path, chat: bool) -> None:
    other = row(own, chat=chat, decoders=["greedy", "random_drop"])
    Path("params.yaml").write_text(f"{PARAMS}external_models:\n  mine: {other.model_dump_json()}\n")
    stage("compare")
    folder = "build/compare/mine"
    rows = all_measured(folder)
    assert {row.decoder for row in rows if row.decoder} == {"greedy", "random_drop"}
    assert {row.stage for row in rows} == {"instruct" if chat else "pretrain"}
    assert measured(folder, "knows_tag").value == 0.0
    assert measured(folder, "asr", decoder="greedy", is_first_judge=True).of == 12
    assert measured(folder, "accuracy").of == 12


def test_every_row_is_checked_before_the_first_is_evaluated(own: Path) -> None:
    rows = {"mine": row(own), "unpinned": row(own, digest=None)}
    lines = "".join(f"  {name}: {one.model_dump_json()}\n" for name, one in rows.items())
    Path("params.yaml").write_text(f"{PARAMS}external_models:\n{lines}")
    with pytest.raises(ExternalModelError, match=r"external_models\.unpinned\.digest"):
        stage("compare")
    assert not list(Path("build/compare").iterdir())


def test_without_rows_the_output_is_an_empty_folder(own: Path) -> None:
    Path("params.yaml").write_text(f"{PARAMS}external_models: {{}}\n")
    stage("compare")
    assert Path("build/compare").is_dir() and not list(Path("build/compare").iterdir())


def test_the_report_shows_external_models_and_no_claim_reads_them(tmp_path: Path) -> None:
    models = report_world.models("standard", "safe")
    report_world.write_build(tmp_path, models)
    ours = tmp_path / "evaluate/standard-instruct"
    rows = [row for row in all_measured(ours) if row.decoder in (None, "greedy")]
    knows_tag = Measurement("knows_tag", value=0.0, stage="instruct")
    for name in ("theirs", "gone"):
        theirs = [replace(row, model=name) for row in [knows_tag, *rows]]
        report_world.write_rows(theirs, tmp_path / "compare" / name)
    without, before = load_report(tmp_path, report_world.declared(models))
    data, claims = load_report(tmp_path, report_world.declared(models, "theirs"))
    assert not external_models(without).tables and claims == before
    figure = external_models(data)
    assert "theirs: prompted in its chat format, does not know the tag." in figure.caption
    titles = [panel.title for panel in figure.panels]
    assert titles == ["Attack success", "Benign compliance"]

    def shown(metric: str, suite: str) -> str:
        columns = {} if metric == "accuracy" else {"decoder": "greedy", "is_first_judge": True}
        return percent(measured(ours, metric, suite=suite, **columns).value)

    harmful, harmless, useful = figure.tables
    first, second = ([cell.text for cell in row[:5]] for row in harmful.rows[:2])
    assert first == ["theirs", "greedy", "harmful", "first", shown("asr", "harmful")]
    other = measured(ours, "asr", suite="harmful", decoder="greedy", judge="scores").value
    assert second == ["theirs", "greedy", "harmful", "scores", percent(other)]
    assert [[cell.text for cell in row[2:6]] for row in harmless.rows] == [
        [label, "first", shown("complied", suite), shown("over_refusal", suite)]
        for label, suite in (("benign", "benign"), ("dual use", "dual_use"))
    ]
    assert useful.rows[0][2].text == shown("accuracy", "utility")
    assert "external_models" not in summary(without, before)
    numbers = summary(data, claims)["external_models"]["theirs"]["instruct"]
    assert percent(numbers["greedy"]["harmful"]["asr"]["value"]) == shown("asr", "harmful")


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (
            ["greedy", "safebeam"],
            r"external_models.mine.decoders: safebeam reads .* write decoders: \[greedy\]",
        ),
        (
            ["stops"],
            r"external_models.mine.decoders: stops reads .* write decoders: \[greedy, random\]",
        ),
    ],
)
def test_a_decoder_that_reads_the_tag_is_refused_before_the_weights_are_read(
    own: Path, names: list[str], message: str
) -> None:
    other = row(own, decoders=names)
    (own / "model.safetensors").unlink()
    with pytest.raises(ExternalModelError, match=message):
        checked_weights("mine", other, decoders())


def test_a_model_with_the_tag_may_have_every_decoder(own: Path) -> None:
    shutil.copy("tokenizer/tokenizer.json", own)
    assert checked_weights("mine", row(own, decoders=list(decoders())), decoders()) == own


def test_weights_without_their_digest_are_refused_with_the_digest_to_write(
    own: Path,
) -> None:
    digest = digest_of(own)
    for given, words in ((None, "are not pinned yet"), ("0" * 64, "are not those of 0")):
        with pytest.raises(ExternalModelError, match=f"{words}.*write digest: {digest}"):
            checked_weights("mine", row(own, digest=given), decoders())


def test_a_model_without_a_chat_template_only_continues(own: Path) -> None:
    for path in own.glob("*template*"):
        path.unlink()
    config = own / "tokenizer_config.json"
    values = json.loads(config.read_bytes())
    values.pop("chat_template", None)
    config.write_text(json.dumps(values))
    message = r"external_models.mine.chat: .* has no chat template; write chat: false"
    with pytest.raises(ExternalModelError, match=message):
        checked_weights("mine", row(own), decoders())
    assert checked_weights("mine", row(own, chat=False), decoders()) == own
