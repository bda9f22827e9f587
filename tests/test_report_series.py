"""Amounts and starts: the declared series of models, and the report's figures of them."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import pytest
import yaml

from safelm.report.build import load_report
from safelm.report.data import ReportData
from safelm.report.figures.ablation import amounts, starts
from safelm.report.layout import Cell, Figure, name_of
from specs.comparisons import Comparisons
from specs.mixture import Model
from tests import report_world as world

SERIES = {
    "standard": None,
    "filtered": "filtered",
    "safe": "safe",
    "ablation": {},
    "amounts": {
        "rate of tags": {0.05: "safe", 0.01: "sparse", 0.5: "gone"},
        "weight of refusals": {6.0: "six", 1.0: "safe", 0.0: "none"},
    },
    "starts": {
        "natural": {0.2: "safe", 0.0: "from_0", 0.6: "from_60", 1.0: "filtered"},
        "matched dose": {0.0: "dose_from_0", 0.6: "dose_from_60", 1.0: "filtered"},
    },
}
NAMES = ("filtered", "safe", "sparse", "six", "none", "from_0", "from_60")
DOSED = ("dose_from_0", "dose_from_60")


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ReportData:
    """A build of the models of these series, but for one that is gone."""
    mixtures = dict.fromkeys((*NAMES, *DOSED), world.mixture("score_0", "refusals", "tagged"))
    for name in mixtures:
        monkeypatch.setitem(world.ASR, name, (0.6, 0.1, 0.3))
    models = {name: Model(mixture=name, shape="nano", seed=1) for name in mixtures}
    world.write_evaluations(tmp_path, models)
    declared = world.declared(models, mixtures=mixtures, comparisons=Comparisons(**SERIES))
    return load_report(tmp_path, declared)[0]


def row_of(figure: Figure, *heads: str) -> Sequence[Cell]:
    """Return the row of greedy decoding."""
    (rows,) = (table.rows for table in figure.tables)
    return next(row for row in rows if [cell.text for cell in row[:3]] == [*heads, "greedy"])


def test_models_of_a_series_are_put_in_the_order_of_their_amounts(data: ReportData) -> None:
    found = {
        name: {amount: group.name for amount, group in groups.items()}
        for name, groups in data.roles.amounts.items()
    }
    assert found == {
        "rate of tags": {0.01: "sparse", 0.05: "safe"},
        "weight of refusals": {0.0: "none", 1.0: "safe", 6.0: "six"},
    }
    assert [list(amounts) for amounts in found.values()] == [[0.01, 0.05], [0.0, 1.0, 6.0]]


def test_every_amount_has_its_rates(data: ReportData) -> None:
    rate, weight = amounts(data)
    assert (rate.id, weight.id) == ("amounts-rate-of-tags", "amounts-weight-of-refusals")
    assert list(rate.tables[0].head[3:]) == ["1 %", "5 %"] and len(rate.panels) == 3 * 2
    asr = data.single.rate("asr", "sparse", "instruct", "greedy")
    shown = row_of(rate, "Attack success", name_of("stage", "instruct"))[3].small
    assert asr and f"{asr.count}/{asr.of}" in shown
    complied = data.single.rate("complied", "safe", "pretrain", "greedy")
    shown = row_of(rate, "Benign compliance", "Base model")[4].small
    assert complied and f"{complied.count}/{complied.of}" in shown


def test_every_start_and_stage_has_its_rate(data: ReportData) -> None:
    figure = starts(data)
    assert list(figure.tables[0].head[3:]) == ["0 %", "20 %", "60 %", "100 %"]
    stages, schedules, decoders = 3, 2, 2
    assert len(figure.panels) == stages * decoders
    assert len(figure.tables[0].rows) == stages * schedules * decoders
    asr = data.single.rate("asr", "from_60", "finetune", "greedy")
    row = row_of(figure, "natural", "After benign finetuning")
    assert asr and f"{asr.count}/{asr.of}" in row[5].small
    never = row_of(figure, "matched dose", "After benign finetuning")
    assert never[4].text == "–" and never[6].text == row[6].text


def test_a_series_of_which_one_model_is_built_has_no_figure(tmp_path: Path) -> None:
    models = world.models("safe", "filtered")
    world.write_evaluations(tmp_path, models)
    series = {**SERIES, "starts": {"natural": {0.2: "safe", 0.6: "from_60"}}}
    declared = world.declared(models, comparisons=Comparisons(**series))
    data = load_report(tmp_path, declared)[0]
    assert not starts(data).tables and amounts(data) == []


def test_every_model_of_the_experiment_stands_in_a_series() -> None:
    rows = yaml.safe_load(Path("specs/experiments/doses.yaml").read_text(encoding="utf-8"))
    series = rows["comparisons"]["amounts"].values()
    assert set(chain(*(models.values() for models in series))) == set(rows["models"])
