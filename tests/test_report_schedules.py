"""The report's figures of time: when interventions start, how fast finetuning undoes them, and the
held-out loss.
"""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from safelm.report.build import bind
from safelm.report.charts.xy import Series, steps
from safelm.report.figure import Book
from safelm.report.figures.corpora_and_training import held_out
from safelm.report.figures.relearning import relearning
from safelm.report.figures.start_of_interventions import schedules, when_to_start
from safelm.report.roles import start_of
from safelm.stats.rates import rate
from specs.mixture import Mixture, Model
from tests import report_world as world

SAFE, ALL = ["score_0"], ["score_0", "rephrased", "refusals", "education", "tagged"]


def mixture(*phases: tuple[int, list[str]], dose: bool = False) -> Mixture:
    """Phases of a share and parts; tagged pages as a dose, if asked."""
    rows = []
    for share, parts in phases:
        weights: dict[str, object] = dict.fromkeys(parts, 1.0)
        weights |= {"tagged": {"budget_share": 0.05}} if dose and "tagged" in parts else {}
        rows.append({"share": share, "proportions": "natural", "parts": weights})
    return Mixture.model_validate({"phases": rows})


MIXTURES = {
    "filtered": mixture((1, SAFE)),
    "safe": mixture((1, SAFE), (4, ALL)),
    "from_0": mixture((5, ALL)),
    "from_60": mixture((1, SAFE), (2, SAFE), (2, ALL)),
    "dose_from_0": mixture((5, ALL), dose=True),
    "dose_from_60": mixture((3, SAFE), (2, ALL), dose=True),
}


def read(root: Path, mixtures: dict[str, Mixture], models: dict[str, Model]) -> Book:
    return bind(root, replace(world.declared(models), mixtures=mixtures))[0]


@pytest.fixture
def scheduled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Book:
    """A build of models that start at different times."""
    for name in MIXTURES:
        monkeypatch.setitem(world.ASR, name, (0.6, 0.1, 0.3))
    models = {name: Model(mixture=name, shape="nano", seed=1) for name in MIXTURES}
    world.write_evaluations(tmp_path, models)
    return read(tmp_path, MIXTURES, models)


@pytest.fixture
def book(tmp_path: Path) -> Book:
    """Two mixtures of two seeds."""
    models = world.models("standard", "safe", seeds=2)
    world.write_build(tmp_path, models)
    return read(tmp_path, world.mixtures(), models)


@pytest.mark.parametrize(
    ("name", "start"), [("filtered", 1.0), ("safe", 0.2), ("from_0", 0.0), ("from_60", 0.6)]
)
def test_a_mixture_starts_where_written_or_tagged_text_is_first_read(
    name: str, start: float
) -> None:
    assert start_of(MIXTURES[name], world.corpora()) == start


def test_schedules_are_told_apart_by_their_dose(scheduled: Book) -> None:
    found = {
        kind: {start: row.name for start, row in rows.items()}
        for kind, rows in schedules(scheduled).items()
    }
    assert found == {
        "natural": {0.2: "safe", 0.0: "from_0", 0.6: "from_60", 1.0: "filtered"},
        "matched dose": {0.0: "dose_from_0", 0.6: "dose_from_60", 1.0: "filtered"},
    }


def test_every_start_and_stage_has_its_rate(scheduled: Book) -> None:
    figure = when_to_start(scheduled)
    assert figure and list(figure.tables[0].head[3:]) == ["0 %", "20 %", "60 %", "100 %"]
    assert (
        len(figure.panels) == 3 * 2 and len(figure.tables[0].rows) == 3 * 2 * 2
    )  # stages, schedules, decoders
    asr = scheduled.measured.models["from_60"]["finetune"]["decoders"]["greedy"]["harmful"]["asr"]
    (row,) = [
        row
        for row in figure.tables[0].rows
        if [cell.text for cell in row[:3]] == ["natural", "After benign finetuning", "greedy"]
    ]
    assert f"{asr.count}/{asr.of}" in row[5].small


def test_one_start_is_no_schedule(book: Book) -> None:
    assert when_to_start(book) is None


def test_the_doses_of_all_seeds_are_pooled(book: Book) -> None:
    figure = relearning(book)
    assert figure and list(figure.tables[0].head[3:]) == ["0", "32", "128", "all"]
    safe = next(
        row
        for row in figure.tables[0].rows
        if row[0].text == "safe" and row[2].text == "Attack success"
    )
    assert all(cell.small.count("/300") == 1 and "seeds" in cell.small for cell in safe[3:])


def test_a_build_without_doses_has_no_such_figure(tmp_path: Path) -> None:
    models = world.models("standard")
    world.write_evaluations(tmp_path, models)
    path = tmp_path / "evaluate/standard-finetune/metrics.json"
    world.write(path, {**json.loads(path.read_bytes()), "doses": {}})
    assert relearning(read(tmp_path, world.mixtures(), models)) is None


def test_the_held_out_loss_is_of_the_corpus_that_most_models_read(book: Book) -> None:
    figure = held_out(book)
    assert figure and figure.title.endswith("score 0")
    assert {row[0].text for row in figure.tables[0].rows if row[1].text == "score_0"} == set(
        world.models("standard", "safe", seeds=2)
    )
    assert str(figure.panels[0].chart).count('class="curve') == 2  # seeds are one curve


def test_a_place_that_was_not_measured_has_no_mark() -> None:
    rates = [rate(1, 4, 0.95), None, rate(3, 4, 0.95)]
    drawn = str(steps([Series("a", "s1", rates)], ["x", "y", "z"], "label", x_title="", y_title=""))
    assert len(re.findall(r'class="s1 mark"', drawn)) == 2 and drawn.count("whisker") == 2
