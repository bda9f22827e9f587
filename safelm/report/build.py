"""The stage `report`: read, measure, judge the claims, draw and write."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any

from safelm.builder.digest import json_digest
from safelm.builder.paths import build
from safelm.builder.terminal import align_columns
from safelm.report import figures
from safelm.report.charts import svg
from safelm.report.charts.numbers import NONE, percent, short_percent
from safelm.report.claim import Claim, verdicts
from safelm.report.claims import CLAIMS, claims
from safelm.report.data import HEADLINES, ReportData, read_data
from safelm.report.figures.answers import attack_success
from safelm.report.figures.makers import makers
from safelm.report.inputs import Declared
from safelm.report.layout import FIGURES, TABLES, Figure, read_yaml
from safelm.report.summary import files

PAGE, PICTURE = "page.html.jinja", "picture.svg.jinja"
TEMPLATES = (PAGE, PICTURE, "page.css", svg.TEMPLATE)
FILES = (*(svg.REPORT / name for name in TEMPLATES), FIGURES, TABLES, CLAIMS)


def make_report(folder: Path, *, declared: Declared, params: Mapping[str, Any]) -> list[str]:
    """Write every file of the report; return the lines that the stage prints."""
    data, judged = load_report(build(), declared)
    write_report(folder, data, judged, params)
    return [*screen(data, judged), f"report: {build('report', 'index.html')}"]


def load_report(folder: Path, declared: Declared) -> tuple[ReportData, list[Claim]]:
    """Read build/ and judge the claims."""
    data = read_data(folder, declared)
    return data, claims(data)


def write_report(
    folder: Path, data: ReportData, judged: Sequence[Claim], params: Mapping[str, Any]
) -> None:
    """Write the page, the README's picture, summary.json, metrics/ and plots/ into a folder."""
    page = {"index.html": render(data, judged, params), "report.svg": draw_picture(data)}
    for name, text in {**page, **dict(files(data, judged))}.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def render(data: ReportData, judged: Sequence[Claim], params: Mapping[str, Any]) -> str:
    """Render the whole report into one file: no script, and nothing loaded from anywhere."""
    sizes = [run.get("parameters") for run in data.training.values()]
    return svg.render(
        PAGE,
        title=data.declared.title,
        data=data,
        parameters=max((size for size in sizes if size), default=None),
        claims=judged,
        verdicts=verdicts(judged),
        pooled=[group.name for group in data.built if len(group.models) > 1],
        confidence=short_percent(data.confidence),
        sections=sections(data),
        makers=makers(data),
        blocks=sorted(params),
        digest=json_digest(params)[:16],
    )


def sections(data: ReportData) -> list[tuple[str, list[Figure]]]:
    """Draw every figure of what was built, under the headings of figures.yaml."""
    drawn: list[Figure] = []
    rows = read_yaml(FIGURES).values()
    built = [row["drawn_by"] for row in rows if "needs" not in row or getattr(data, row["needs"])]
    # A function may draw the figures of several rows.
    for function in dict.fromkeys(built):
        found = attrgetter(function)(figures)(data)
        drawn += [found] if isinstance(found, Figure) else found
    shown = [figure for figure in drawn if figure.panels or figure.tables]
    # groupby joins neighbours only: figures.yaml lists the figures of a section together.
    return [(name, list(members)) for name, members in groupby(shown, lambda one: one.section)]


def draw_picture(data: ReportData) -> str:
    """Draw Figure 2 as the README shows it: its panels side by side, with legend and colours."""
    words = f"{data.declared.title}, {100 * data.confidence:g} % intervals"
    return svg.render(PICTURE, figure=attack_success(data), words=words) + "\n"


def screen(data: ReportData, judged: Sequence[Claim]) -> list[str]:
    """Summarise the report in one screen of a terminal."""
    heads = [column for column, *_ in HEADLINES.values()]
    lines = [["model", "stage", *heads]]
    for group, stage, rates in data.headlines(data.measured):
        shown = [percent(rate.value if rate else None) for rate in rates]
        lines.append([group, stage, *shown])
    counts = [f"{count} {verdict}" for verdict, count in verdicts(judged).items()]
    return [*align_columns(lines, 2), f"claims: {', '.join(counts) or NONE}"]
