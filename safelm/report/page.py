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
from safelm.report.figures import (
    ablation,
    answers,
    corpora,
    decoding,
    differences,
    makers,
    scorers,
    tuning,
)
from safelm.report.layout import FIGURES, TABLES, Figure

PAGE, PICTURE = "page.html.jinja", "picture.svg.jinja"
TEMPLATES = (PAGE, PICTURE, "page.css", svg.TEMPLATE)
FILES = (*(svg.REPORT / name for name in TEMPLATES), FIGURES, TABLES, CLAIMS)
# Functions that draw a figure, or several, in the order of the page.
DRAWN = (
    answers.attack_success,
    answers.by_form,
    answers.outcomes,
    tuning.finetuning,
    tuning.harmful_tuning,
    tuning.suffix_attacks,
    answers.harmless,
    answers.public_suites,
    answers.external_models,
    differences.differences,
    differences.overlap,
    decoding.decoder_controls,
    decoding.tag_signal,
    decoding.probes,
    ablation.ablation,
    ablation.starts,
    ablation.amounts,
    ablation.utility,
    scorers.classifier,
    scorers.audit,
    scorers.reliability,
    scorers.cascades,
    corpora.scores,
    corpora.hazards,
    corpora.training,
    corpora.held_out,
    makers.funnel,
    corpora.ledger,
    corpora.models,
    corpora.mixtures,
    makers.made_by,
)


def render(
    data: ReportData, claims: Sequence[Claim], *, engine: str, params: Mapping[str, Any]
) -> str:
    """Render the whole report: no script, and nothing loaded from anywhere."""
    sizes = [run.get("parameters") for run in data.inputs.training.values()]
    return svg.render(
        PAGE,
        title=data.declared.title,
        data=data,
        parameters=max((size for size in sizes if size), default=None),
        engine=engine,
        claims=claims,
        verdicts=verdicts(claims),
        pooled=[group.name for group in data.built if len(group.models) > 1],
        confidence=short_percent(data.confidence),
        sections=sections(data),
        makers=makers.makers(data),
        blocks=sorted(params),
        digest=json_digest(params)[:16],
    )


def sections(data: ReportData) -> list[tuple[str, list[Figure]]]:
    """Draw every figure of what was built, under the headings of figures.yaml."""
    figures: list[Figure] = []
    for draw in DRAWN:
        drawn = draw(data)
        figures += [drawn] if isinstance(drawn, Figure) else drawn
    shown = [figure for figure in figures if figure.panels or figure.tables]
    return [(name, list(members)) for name, members in groupby(shown, lambda one: one.section)]
