"""The page: figures in their order, rendered into one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import Any

from markupsafe import Markup

from safelm.builder.digest import json_digest
from safelm.report.charts.numbers import NONE, THIN, short_percent
from safelm.report.charts.svg import TEMPLATE, draw, environment
from safelm.report.claim import Claim, verdicts
from safelm.report.claims import CLAIMS
from safelm.report.data import ReportData
from safelm.report.figures.ablation import ablation, amounts, starts, utility
from safelm.report.figures.answers import (
    attack_success,
    by_form,
    harmless,
    outcomes,
    public_suites,
)
from safelm.report.figures.attacks import suffix_attacks
from safelm.report.figures.corpora import (
    held_out,
    ledger,
    mixtures,
    models,
    report_card,
    training,
)
from safelm.report.figures.decoding import decoder_controls, probes, tag_signal
from safelm.report.figures.differences import differences
from safelm.report.figures.others import external_models, overlap
from safelm.report.figures.scorers import scorers
from safelm.report.figures.tuning import finetuning, harmful_tuning
from safelm.report.layout import FIGURES, TABLES, Cell, Figure, Table, table

HERE = Path(__file__).parent
PAGE = HERE / "page.html.jinja"
FILES = (PAGE, HERE / "picture.svg.jinja", HERE / "page.css", TEMPLATE, FIGURES, TABLES, CLAIMS)
SIGNS = {"reproduced": "✓", "contradicted": "✗", "not distinguishable": "≈", "not measured": "–"}


def render(
    data: ReportData, claims: Sequence[Claim], *, statement: str, params: Mapping[str, Any]
) -> str:
    """Render the whole report: no script, and nothing loaded from anywhere."""
    css = (HERE / "page.css").read_text(encoding="utf-8")
    template = environment(HERE).get_template(PAGE.name)
    return template.render(
        title=data.declared.title,
        statement=statement,
        css=Markup(css),
        claims=claims_table(claims),
        verdicts=[(SIGNS[name], name, count) for name, count in verdicts(claims).items()],
        pooled=[group.name for group in data.built if len(group.models) > 1],
        confidence=short_percent(data.confidence),
        sections=sections(data),
        blocks=sorted(params),
        digest=digest(params),
        swatch=partial(draw, "swatch"),
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
        attack_success(data),
        by_form(data),
        outcomes(data),
        finetuning(data),
        harmful_tuning(data),
        suffix_attacks(data),
        *harmless(data),
        *public_suites(data),
        external_models(data),
        differences(data),
        overlap(data),
        decoder_controls(data),
        tag_signal(data),
        probes(data),
        ablation(data),
        starts(data),
        *amounts(data),
        utility(data),
        *scorers(data),
        *report_card(data),
        training(data),
        held_out(data),
        ledger(data),
        models(data),
        mixtures(data),
    ]
    # What was not built has nothing to show.
    drawn = [figure for figure in figures if figure.panels or figure.tables]
    return [(name, list(members)) for name, members in groupby(drawn, lambda one: one.section)]


def digest(params: Mapping[str, Any]) -> str:
    """Return a short digest of blocks of params.yaml."""
    return json_digest(params)[:16]
