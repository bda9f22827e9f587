"""The stage `report`: read, measure, judge the claims, draw and write."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from safelm.builder.paths import build
from safelm.builder.terminal import align_columns
from safelm.report.charts.numbers import NONE, percent
from safelm.report.claim import Claim, verdicts
from safelm.report.claims import claims
from safelm.report.data import HEADLINES, ReportData, read_data
from safelm.report.inputs import Declared
from safelm.report.page import render
from safelm.report.readme_figure import PICTURE, draw_picture
from safelm.report.summary import files


def load_report(folder: Path, declared: Declared) -> tuple[ReportData, list[Claim]]:
    """Read build/ and judge the claims."""
    data = read_data(folder, declared)
    return data, claims(data)


def make_report(
    folder: Path, *, declared: Declared, engine: str, params: Mapping[str, Any]
) -> list[str]:
    """Write every file of the report; return the lines that the stage prints."""
    data, judged = load_report(build(), declared)
    write_report(folder, data, judged, engine=engine, params=params)
    return [*screen(data, judged), f"report: {build('report', 'index.html')}"]


def write_report(
    folder: Path,
    data: ReportData,
    judged: Sequence[Claim],
    *,
    engine: str,
    params: Mapping[str, Any],
) -> None:
    """Write the page, the README's picture, summary.json, metrics/ and plots/ into a folder."""
    page = render(data, judged, engine=engine, params=params)
    texts = {"index.html": page, PICTURE: draw_picture(data), **dict(files(data, judged))}
    for name, text in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def screen(data: ReportData, judged: Sequence[Claim]) -> list[str]:
    """Summarise the report in one screen of a terminal."""
    lines: list[tuple[str, ...]] = [
        ("model", "stage", *(column for column, *_ in HEADLINES.values()))
    ]
    for group, stage, rates in data.headlines(data.measured):
        lines.append((group, stage, *(percent(rate.value if rate else None) for rate in rates)))
    counts = [f"{count} {verdict}" for verdict, count in verdicts(judged).items()]
    return [*align_columns(lines, 2), f"claims: {', '.join(counts) or NONE}"]
