"""Figures along training: checkpoints of benign finetuning, and the held-out loss."""

from pathlib import Path

import pytest

from safelm.report.build import load_report
from safelm.report.data import ReportData
from safelm.report.figures.answers import finetuning
from safelm.report.figures.corpora import held_out
from tests import report_world as world


@pytest.fixture
def data(tmp_path: Path) -> ReportData:
    """Two mixtures of two seeds."""
    models = world.models("standard", "safe", seeds=2)
    world.write_build(tmp_path, models)
    return load_report(tmp_path, world.declared(models))[0]


def test_checkpoints_are_pooled_over_seeds(data: ReportData) -> None:
    figure = finetuning(data)
    assert list(figure.tables[0].head[3:]) == ["0", "32", "128", "all"]
    rows = {(row[0].text, row[2].text): row for row in figure.tables[0].rows}
    cells = rows["safe", "Attack success"][3:]
    assert all(cell.small.count("/300") == 1 and "seeds" in cell.small for cell in cells)


def test_a_build_without_checkpoints_has_no_such_figure(tmp_path: Path) -> None:
    models = world.models("standard")
    world.write_evaluations(tmp_path, models)
    folder = tmp_path / "evaluate/standard-finetune"
    world.change(folder, lambda row: None if row.checkpoint else row)
    assert not finetuning(load_report(tmp_path, world.declared(models))[0]).tables


def test_the_held_out_loss_is_of_the_corpus_that_most_models_read(data: ReportData) -> None:
    figure = held_out(data)
    assert figure.title.endswith("score 0")
    models = {row[0].text for row in figure.tables[0].rows if row[1].text == "score_0"}
    assert models == set(world.models("standard", "safe", seeds=2))
    # Seeds are one curve.
    assert str(figure.panels[0].chart).count('class="curve') == 2
