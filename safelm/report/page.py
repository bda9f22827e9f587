"""The page: sections in their order, rendered into one self-contained HTML file."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from markupsafe import Markup

from safelm.builder.digest import json_digest
from safelm.report.charts.numbers import NONE, short_percent
from safelm.report.charts.svg import TEMPLATE, draw, environment
from safelm.report.claim import Claim, paper_lines, verdicts
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
from safelm.report.figures.corpora import held_out, ledger, mixtures, report_card, training
from safelm.report.figures.decoding import decoder_controls, probes, tag_signal
from safelm.report.figures.differences import differences
from safelm.report.figures.others import external_models, overlap
from safelm.report.figures.scorers import scorers
from safelm.report.figures.tuning import finetuning, harmful_tuning
from safelm.report.layout import CAPTIONS, Cell, Figure, Section, Table, figure, table
from safelm.report.roles import STEPS

HERE = Path(__file__).parent
TEMPLATES = (HERE / "page.html.jinja", HERE / "picture.svg.jinja", TEMPLATE)
FILES = (*TEMPLATES, HERE / "page.css", CAPTIONS, CLAIMS)
SIGNS = {"reproduced": "✓", "contradicted": "✗", "not distinguishable": "≈", "not measured": "–"}


def render(
    data: ReportData, claims: Sequence[Claim], *, statement: str, params: Mapping[str, Any]
) -> str:
    """Render the whole report: no script, and nothing loaded from anywhere."""
    css = (HERE / "page.css").read_text(encoding="utf-8")
    return (
        environment(HERE)
        .get_template("page.html.jinja")
        .render(
            title=data.declared.title,
            statement=statement,
            css=Markup(css),
            claims=claims_table(claims),
            verdicts=[(SIGNS[name], name, count) for name, count in verdicts(claims).items()],
            notes=notes(data),
            sections=sections(data, params),
            swatch=partial(draw, "swatch"),
        )
    )


def claims_table(claims: Sequence[Claim]) -> Table:
    """Build the table of verdicts."""
    rows = []
    for claim in claims:
        mark = f"verdict {claim.verdict.replace(' ', '-')}"
        row = (
            Cell(claim.text, claim.source),
            Cell(f"{SIGNS[claim.verdict]} {claim.verdict}", mark=mark),
            Cell("", lines=claim.lines),
            Cell("", lines=paper_lines(claim)),
        )
        rows.append(row)
    caption = "Claims of the paper, and our own, with the verdict of this build"
    return table(caption, ("Claim",), ("Verdict", "Here", "Paper"), rows)


def notes(data: ReportData) -> list[str]:
    """Explain the intervals and verdicts."""
    pooled = ", ".join(group.name for group in data.built if len(group.models) > 1)
    seeds = (
        f"Models that differ in their seed alone are reported together ({pooled}); they answer "
        "the same prompts, so their intervals count those of one seed, and are widened by the "
        "spread between seeds. A dot marks each seed."
        if pooled
        else "There is one seed per mixture: the spread between seeds, which is often larger than "
        "these intervals, is not seen here. More seeds are rows of models in params.yaml."
    )
    return [
        f"Intervals are Wilson's at {short_percent(data.confidence)}; differences over the same "
        "prompts have those of a paired bootstrap, others Newcombe's. A claim “A is below B” is "
        "reproduced when the interval of the difference excludes 0 in the claimed direction, "
        "contradicted when it excludes 0 in the other, and not distinguishable otherwise. “Is "
        "kept” and “is not higher” mean within five points: reproduced when the whole interval is, "
        "contradicted when the whole interval is beyond. Areas under a curve, gains and cascades "
        f"have intervals from where they were measured, at {short_percent(0.95)}.",
        "Several prompts ask for one act, so they are not independent and the intervals of rates "
        "are too narrow; the bootstrap draws acts. Of many comparisons a few will err; the table "
        "of differences allows for their number.",
        seeds,
    ]


def sections(data: ReportData, params: Mapping[str, Any]) -> list[Section]:
    """Draw every figure, in the order of the page; sections without figures are left out."""
    attack = (attack_success(data), by_form(data), outcomes(data), finetuning(data))
    made = (_tables("models-table", _models(data)), _tables("mixtures-table", mixtures(data)))
    drawn_sections: list[tuple[str, str, Sequence[Figure | None]]] = [
        ("attack", "Attack success", [*attack, harmful_tuning(data), suffix_attacks(data)]),
        ("harmless", "Harmless requests", harmless(data)),
        ("suites", "Public benchmarks", public_suites(data)),
        ("others", "External models", [external_models(data)]),
        ("differences", "Differences", [differences(data)]),
        ("overlap", "Overlap", [overlap(data)]),
        ("decoding", "Decoding", [decoder_controls(data), tag_signal(data), probes(data)]),
        ("ablation", "Ablation", [ablation(data), starts(data), *amounts(data)]),
        ("abilities", "Utility", [utility(data)]),
        ("scorer", "Scores", list(scorers(data))),
        ("card", "Data Safety Report Card", report_card(data)),
        ("runs", "Training", [training(data), held_out(data)]),
        ("ledger", "The data ledger", [_tables("ledger-table", ledger(data))]),
        ("made", "Models and mixtures", made),
    ]
    paragraphs = {"made": [_digest_text(params)]}
    built = []
    for id, title, figures in drawn_sections:
        drawn = [drawing for drawing in figures if drawing]
        if drawn:
            built.append(Section(id, title, drawn, paragraphs.get(id, [])))
    return built


def _tables(id: str, of: Table | None) -> Figure | None:
    return figure(id, tables=[of]) if of else None


def _models(data: ReportData) -> Table:
    rows = []
    for group in data.roles.groups:
        step = STEPS[group.step] if group.step else "not in the ablation"
        part, tags = data.roles.part(group.name) or NONE, "yes" if group.has_tags else "no"
        rows += [[model, group.mixture, group.shape, step, part, tags] for model in group.models]
    columns = ("Mixture", "Shape", "Step of the ablation", "Part in the claims", "Knows the tag")
    return table("Models", ("Model",), columns, rows)


def digest(params: Mapping[str, Any]) -> str:
    """Return a short digest of blocks of params.yaml."""
    return json_digest(params)[:16]


def _digest_text(params: Mapping[str, Any]) -> str:
    return (
        f"Digest of the blocks of params.yaml that the report reads ({', '.join(sorted(params))}): "
        f"{digest(params)}. The same params give the same bytes: this file holds no clock, no host "
        "name and no path."
    )
