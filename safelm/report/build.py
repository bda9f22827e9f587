"""The stage `report`: read, measure, judge the claims, draw and write."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safelm.builder.paths import build
from safelm.builder.terminal import align_columns
from safelm.report.charts.numbers import NONE, percent
from safelm.report.claim import Claim, verdicts
from safelm.report.claims import claims
from safelm.report.data import ReportData, read_data
from safelm.report.inputs import Declared, Inputs
from safelm.report.page import render
from safelm.report.readme_figure import PICTURE, draw_picture
from safelm.report.summary import write
from specs.source import SourceRow

COLUMNS = {
    "asr": "ASR",
    "asr_safebeam": "SafeBeam",
    "benign_compliance": "benign",
    "over_refusal": "over-refusal",
    "utility": "utility",
}


def load_report(folder: Path, declared: Declared) -> tuple[ReportData, list[Claim]]:
    """Read build/ and judge the claims."""
    data = read_data(folder, declared)
    return data, claims(data)


def make_report(
    folder: Path, *, declared: Declared, engine: str, params: Mapping[str, Any]
) -> list[str]:
    """Write every file of the report; return the lines that the stage prints."""
    data, judged = load_report(build(), declared)
    words = statement(data.inputs, declared.sources, engine)
    write_report(folder, data, judged, statement=words, params=params)
    return [*screen(data, judged), f"report: {build('report', 'index.html')}"]


def write_report(
    folder: Path,
    data: ReportData,
    judged: Sequence[Claim],
    *,
    statement: str,
    params: Mapping[str, Any],
) -> None:
    """Write the page, the README's picture, summary.json, metrics/ and plots/ into a folder."""
    write(folder, data, judged, render(data, judged, statement=statement, params=params))
    (folder / PICTURE).write_text(draw_picture(data), encoding="utf-8")


def statement(inputs: Inputs, sources: Mapping[str, SourceRow], engine: str) -> str:
    """Describe the build and its limits in a few sentences."""
    world = "They read real web pages and answer the requests of specs/suites."
    if sources["web"].reader == "demo":
        world = (
            "They read a small made-up world that a grammar in this repository writes, mild in "
            "substance; every verb and object of the requests was seen in training, the "
            "combinations were not. That world was shaped while looking at such models' answers "
            "to these requests, so the rates are exploratory: read orders, not decimals."
        )
    written = ""
    if engine == "template":
        written = " The synthetic text was written from templates, not by a language model."
    return (
        "This is a miniature of the paper “Safety Pretraining”: the same method with "
        f"{_size(inputs)} in place of one with 1.7 billion parameters. {world}{written} It is an "
        "instrument, not an advertisement: measurements are shown with their uncertainty, beside "
        "the paper's numbers, whether or not the two agree."
    )


def _size(inputs: Inputs) -> str:
    """Describe the number and size of the models, as their training logs state it."""
    count = inputs.measurements["model"].n_unique()
    models = "one model" if count == 1 else f"{count} models"
    sizes = [run.get("parameters") for run in inputs.training.values()]
    known = [size for size in sizes if isinstance(size, int)]
    if not known:
        return f"{models} of far fewer parameters"
    return f"{models} of {max(known) / 1e6:,.2f} million parameters"


def screen(data: ReportData, judged: Sequence[Claim]) -> list[str]:
    """Summarise the report in one screen of a terminal."""
    lines: list[tuple[str, ...]] = [("model", "stage", *COLUMNS.values())]
    for group in data.built:
        for stage in data.measured.stages(group.name):
            rates = data.headlines(data.measured, group.name, stage)
            shown = (percent(rate.value if rate else None) for rate in rates.values())
            lines.append((group.name, stage, *shown))
    counts = [f"{count} {verdict}" for verdict, count in verdicts(judged).items()]
    return [*align_columns(lines, 2), f"claims: {', '.join(counts) or NONE}"]
