"""Dose and response: which models differ in one amount alone, and what the report shows of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from safelm.report.build import bind
from safelm.report.figure import STAGE_NAMES, Book, Cell, Figure
from safelm.report.figures.dose_response import RATE, TAGGED, dose_response, responses
from safelm.report.figures.start_of_interventions import schedules
from specs.add_rows import expanded
from specs.corpus import Corpus, TagRow, WholeCorpus
from specs.mixture import Mixture, Model
from specs.params import Params
from specs.yaml_source import YamlFile
from tests import report_world as world

WEB = {"score_0": 1.0, "rephrased": 1.0}
SAFE = {**WEB, "refusals": 1.0, "tagged": 1.0}


def mixture(parts: dict[str, Any], share: int = 4) -> Mixture:
    """A fifth of score 0, then these parts."""
    phases = [{"share": 1, "parts": {"score_0": 1.0}}, {"share": share, "parts": parts}]
    return Mixture.model_validate(
        {"phases": [{**phase, "proportions": "natural"} for phase in phases]}
    )


MIXTURES = {
    "safe": mixture(SAFE),
    "heavy": mixture({**SAFE, "tagged": 4.0}),
    "none": mixture({**WEB, "refusals": 1.0}),
    "sparse": mixture({**WEB, "refusals": 1.0, "tagged_sparse": 1.0}),
    "six": mixture({**SAFE, "refusals": 6.0}),
    "dosed": mixture({**SAFE, "refusals": {"budget_share": 0.05}}),  # another kind of amount
    "two": mixture({**SAFE, "refusals": 6.0, "tagged": 4.0}),  # two amounts
    "late": mixture({**SAFE, "tagged": 8.0}, share=2),  # another start
    "five": mixture({**WEB, "refusals": 1.0, "tagged_five": 1.0}),  # another rate, and other pages
    "sparse_and_heavy": mixture({**WEB, "refusals": 1.0, "tagged_sparse": 4.0}),
}


def corpora() -> dict[str, Corpus]:
    rows = {name: {"from": f"tag/{name}", "epochs": 9.0} for name in ("sparse", "five")}
    return {
        **world.corpora(),
        **{f"tagged_{name}": WholeCorpus.model_validate(row) for name, row in rows.items()},
    }


@pytest.fixture
def book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Book:
    """A build of these mixtures, the safe one not first."""
    names = [
        "heavy",
        "none",
        "sparse",
        "safe",
        "six",
        "dosed",
        "two",
        "late",
        "five",
        "sparse_and_heavy",
    ]
    for name in names:
        monkeypatch.setitem(world.ASR, name, (0.6, 0.1, 0.3))
    models = {name: Model(mixture=name, shape="nano", seed=1) for name in ("safe", *names)}
    world.write_evaluations(tmp_path, models)
    tags = world.tags(sparse=0.01, five=0.02)
    tags["five"] = tags["five"].model_copy(update={"scores": [5]})
    declared = replace(world.declared(models), mixtures=MIXTURES, corpora=corpora(), tags=tags)
    return bind(tmp_path, declared)[0]


def test_models_that_differ_in_one_amount_alone_are_put_in_order(book: Book) -> None:
    found = {
        what: {amount: row.name for amount, row in rows.items()}
        for what, rows in responses(book).items()
    }
    assert found == {
        f"weight of {TAGGED}": {0.0: "none", 1.0: "safe", 4.0: "heavy"},
        RATE: {0.01: "sparse", 0.05: "safe"},
        "weight of refusals": {1.0: "safe", 6.0: "six"},
    }


def test_every_amount_has_its_rates(book: Book) -> None:
    figures = {figure.id: figure for figure in dose_response(book)}
    assert list(figures) == [
        "dose-weight-of-tagged-pages",
        "dose-rate-of-tags",
        "dose-weight-of-refusals",
    ]
    rate = figures["dose-rate-of-tags"]
    assert list(rate.tables[0].head[3:]) == ["1 %", "5 %"] and len(rate.panels) == 3 * 2
    asr = book.measured.models["sparse"]["instruct"]["decoders"]["greedy"]["harmful"]["asr"]
    assert (
        f"{asr.count}/{asr.of}" in row_of(rate, "Attack success", STAGE_NAMES["instruct"])[3].small
    )
    complied = book.measured.models["safe"]["pretrain"]["decoders"]["greedy"]["benign"]["complied"]
    assert (
        f"{complied.count}/{complied.of}"
        in row_of(rate, "Harmless requests answered", "Base model")[4].small
    )


def row_of(figure: Figure, *heads: str) -> Sequence[Cell]:
    """The row of greedy decoding."""
    return next(
        row
        for row in figure.tables[0].rows
        if [cell.text for cell in row[:3]] == [*heads, "greedy"]
    )


def test_other_amounts_are_no_schedule(book: Book) -> None:
    assert {
        start: row.name for start, row in schedules(book).get("natural", {}).items() if start == 0.2
    } in (
        {},
        {0.2: "safe"},
    )


def test_the_rows_of_the_project_are_doses_of_its_safe_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """specs/experiments/doses.yaml, as `python -m specs --add` writes it: each of its models stands
    in some figure.
    """
    params, rows = (
        Params.read("tags", "corpora", "mixtures"),
        expanded(YamlFile(Path("specs/experiments/doses.yaml"))),
    )
    tags = params.tags | {name: TagRow.model_validate(row) for name, row in rows["tags"].items()}
    whole = params.corpora | {
        name: WholeCorpus.model_validate(row) for name, row in rows["corpora"].items()
    }
    mixtures = params.mixtures | {
        name: Mixture.model_validate(row) for name, row in rows["mixtures"].items()
    }
    models = {name: Model.model_validate(row) for name, row in rows["models"].items()}
    for name in mixtures:
        monkeypatch.setitem(world.ASR, name, (0.6, 0.1, 0.3))
    world.write_evaluations(tmp_path, models)
    declared = replace(world.declared(models), mixtures=mixtures, corpora=whole, tags=tags)
    found = responses(bind(tmp_path, declared)[0])
    assert {what: list(groups) for what, groups in found.items()} == {
        RATE: [0.01, 0.05, 0.15, 0.5],
        f"weight of {TAGGED}": [0.0, 1.0, 4.0],
        "weight of refusals": [0.0, 1.0, 6.0],
    }
