"""The page: figures in their order, rendered into one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from safelm.builder.digest import json_digest
from safelm.report.charts import svg
from safelm.report.charts.numbers import short_percent
from safelm.report.claim import Claim, verdicts
from safelm.report.claims import CLAIMS
from safelm.report.data import ReportData
from safelm.report.figures import ablation, answers, corpora, decoding, scorers, tuning
from safelm.report.figures.differences import differences, overlap
from safelm.report.layout import FIGURES, TABLES, Figure

PAGE, PICTURE = "page.html.jinja", "picture.svg.jinja"
TEMPLATES = (PAGE, PICTURE, "page.css", svg.TEMPLATE)
FILES = (*(svg.REPORT / name for name in TEMPLATES), FIGURES, TABLES, CLAIMS)


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
        claims=claims,
        verdicts=verdicts(claims),
        pooled=[group.name for group in data.built if len(group.models) > 1],
        confidence=short_percent(data.confidence),
        sections=sections(data),
        blocks=sorted(params),
        digest=json_digest(params)[:16],
    )


def sections(data: ReportData) -> list[tuple[str, list[Figure]]]:
    """Draw every figure, in the order of the page, under the headings of figures.yaml."""
    figures = [
        answers.attack_success(data),
        answers.by_form(data),
        answers.outcomes(data),
        tuning.finetuning(data),
        tuning.harmful_tuning(data),
        tuning.suffix_attacks(data),
        *answers.harmless(data),
        *answers.public_suites(data),
        answers.external_models(data),
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
    # Figures of what was not built are empty.
    drawn = [figure for figure in figures if figure.panels or figure.tables]
    return [(name, list(members)) for name, members in groupby(drawn, lambda one: one.section)]
