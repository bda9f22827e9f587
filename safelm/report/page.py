"""The page: figures in their order, rendered into one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from safelm.builder.digest import json_digest
from safelm.report.charts import svg
from safelm.report.charts.numbers import NONE, THIN, short_percent
from safelm.report.claim import Claim, verdicts
from safelm.report.claims import CLAIMS
from safelm.report.data import ReportData
from safelm.report.figures import ablation, answers, attacks, corpora, decoding, scorers, tuning
from safelm.report.figures.differences import differences
from safelm.report.figures.others import external_models, overlap
from safelm.report.layout import FIGURES, TABLES, Cell, Figure, Table, table

PAGE, PICTURE = "page.html.jinja", "picture.svg.jinja"
TEMPLATES = (PAGE, PICTURE, "page.css", svg.TEMPLATE)
FILES = (*(svg.REPORT / name for name in TEMPLATES), FIGURES, TABLES, CLAIMS)
SIGNS = {"reproduced": "✓", "contradicted": "✗", "not distinguishable": "≈", "not measured": "–"}


def render(
    data: ReportData, claims: Sequence[Claim], *, engine: str, params: Mapping[str, Any]
) -> str:
    """Render the whole report: no script, and nothing loaded from anywhere."""
    sizes = [run.get("parameters") for run in data.inputs.training.values()]
    return svg.render(
        PAGE,
        title=data.declared.title,
        models=data.inputs.measurements["model"].n_unique(),
        parameters=max((size for size in sizes if size), default=None),
        is_demo=data.declared.sources["web"].reader == "demo",
        engine=engine,
        claims=claims_table(claims),
        verdicts=[(SIGNS[name], name, count) for name, count in verdicts(claims).items()],
        pooled=[group.name for group in data.built if len(group.models) > 1],
        confidence=short_percent(data.confidence),
        sections=sections(data),
        blocks=sorted(params),
        digest=digest(params),
    )


def claims_table(claims: Sequence[Claim]) -> Table:
    """Build the table of verdicts."""
    rows = []
    for claim in claims:
        mark = f"verdict {claim.verdict.replace(' ', '-')}"
        unit = "" if claim.is_per_million else f"{THIN}%"
        paper = [f"{name}: {value:g}{unit}" for name, value in claim.paper.items()]
        row = {
            "claim": Cell(claim.text, claim.source),
            "verdict": Cell(f"{SIGNS[claim.verdict]} {claim.verdict}", mark=mark),
            "here": Cell("", lines=claim.lines),
            "paper": Cell("", lines=paper or [NONE]),
        }
        rows.append(row)
    return table("claims", rows)


def sections(data: ReportData) -> list[tuple[str, list[Figure]]]:
    """Draw every figure, in the order of the page, under the headings of figures.yaml."""
    figures = [
        answers.attack_success(data),
        answers.by_form(data),
        answers.outcomes(data),
        tuning.finetuning(data),
        tuning.harmful_tuning(data),
        attacks.suffix_attacks(data),
        *answers.harmless(data),
        *answers.public_suites(data),
        external_models(data),
        differences(data),
        overlap(data),
        decoding.decoder_controls(data),
        decoding.tag_signal(data),
        decoding.probes(data),
        ablation.ablation(data),
        ablation.starts(data),
        *ablation.amounts(data),
        ablation.utility(data),
        *scorers.scorers(data),
        *corpora.report_card(data),
        corpora.training(data),
        corpora.held_out(data),
        corpora.ledger(data),
        corpora.models(data),
        corpora.mixtures(data),
    ]
    # What was not built has nothing to show.
    drawn = [figure for figure in figures if figure.panels or figure.tables]
    return [(name, list(members)) for name, members in groupby(drawn, lambda one: one.section)]


def digest(params: Mapping[str, Any]) -> str:
    """Return a short digest of blocks of params.yaml."""
    return json_digest(params)[:16]
