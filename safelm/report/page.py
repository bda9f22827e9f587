"""The page: the sections in their order, and the template that makes one self-contained file of
them.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from safelm.builder.digest import json_digest
from safelm.report.charts.numbers import whole
from safelm.report.charts.svg import swatch
from safelm.report.claim import Claim, paper_lines, verdicts
from safelm.report.figure import Book, Cell, Figure, Section, Table
from safelm.report.figures.attack_success import attack_success, by_form, fates, over_refusal
from safelm.report.figures.corpora_and_training import (
    classifier,
    held_out,
    ledger,
    mixtures,
    report_card,
    training,
)
from safelm.report.figures.decoders_and_ladder import decoder_controls, ladder, utility
from safelm.report.figures.differences import figure as differences
from safelm.report.figures.dose_response import dose_response
from safelm.report.figures.external_models import others
from safelm.report.figures.linear_probes import probes
from safelm.report.figures.overlap import figure as overlap
from safelm.report.figures.public_benchmarks import public_suites
from safelm.report.figures.relearning import relearning, tuned_on
from safelm.report.figures.scorers import scorer_figures
from safelm.report.figures.start_of_interventions import when_to_start
from safelm.report.figures.suffix_attacks import suffixes
from safelm.report.figures.tag_probe import tag_signal
from safelm.report.roles import RUNGS

HERE = Path(__file__).parent
FILES = (HERE / "page.html.jinja", HERE / "page.css")
SIGNS = {"reproduced": "✓", "contradicted": "✗", "not distinguishable": "≈", "not measured": "–"}


def page(book: Book, found: Sequence[Claim], *, statement: str, params: Mapping[str, Any]) -> str:
    """The whole report as one HTML file: no script, nothing loaded from anywhere."""
    environment = Environment(
        loader=FileSystemLoader(HERE),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    css = (HERE / "page.css").read_text(encoding="utf-8")
    return environment.get_template("page.html.jinja").render(
        title=book.title,
        statement=statement,
        css=Markup(css),
        claims=claims_table(found),
        verdicts=[(SIGNS[name], name, count) for name, count in verdicts(found).items()],
        notes=notes(book),
        sections=sections(book, params),
        swatch=swatch,
    )


def claims_table(found: Sequence[Claim]) -> Table:
    """The verdict on every claim."""
    rows = [
        [
            Cell(claim.text, claim.source),
            Cell(
                f"{SIGNS[claim.verdict]} {claim.verdict}",
                mark=f"verdict {claim.verdict.replace(' ', '-')}",
            ),
            Cell("", lines=claim.lines),
            Cell("", lines=paper_lines(claim)),
        ]
        for claim in found
    ]
    return Table(
        "Claims of the paper, and our own, with what this build says of each",
        ["Claim", "Verdict", "Here", "Paper"],
        rows,
    )


def notes(book: Book) -> list[str]:
    """What a reader of the intervals must know."""
    pooled = [group for group in book.measured.built() if len(group.models) > 1]
    seeds = (
        "Models that differ in their seed alone are reported together "
        f"({', '.join(group.name for group in pooled)}); they were asked the same prompts, so their intervals count "
        "those of one seed, and are widened by the spread between seeds. A dot marks each seed."
        if pooled
        else "There is one seed per mixture: the spread between seeds, which is often larger than these "
        "intervals, is not seen here. More seeds are rows of models in params.yaml."
    )
    return [
        f"Intervals are Wilson's at {whole(book.confidence)}; differences over the same prompts have those of a paired "
        "bootstrap, others Newcombe's. A claim “A is below B” "
        "is reproduced when the interval of the difference excludes 0 in the claimed direction, contradicted when "
        "it excludes 0 in the other, and not distinguishable otherwise. “Is kept” and “is not higher” mean within "
        "five points: reproduced when the whole interval is, contradicted when the whole interval is beyond. "
        f"Areas under a curve, gains and cascades have intervals from where they were measured, at {whole(0.95)}.",
        "Several prompts ask for one act, so they are not independent and the intervals of rates are too narrow; the "
        "bootstrap draws acts. Of many comparisons a few will err; the table of differences allows for their number.",
        seeds,
    ]


def sections(book: Book, params: Mapping[str, Any]) -> list[Section]:
    """Everything under the claims, in the order of the page."""
    found = [
        Section(
            "attack",
            "Attack success",
            figures=_built(
                attack_success(book),
                by_form(book),
                fates(book),
                relearning(book),
                tuned_on(book),
                suffixes(book),
            ),
        ),
        Section("harmless", "Harmless requests", figures=_harmless(book)),
        Section("suites", "Public benchmarks", figures=public_suites(book)),
        Section("others", "Models of others", figures=_built(others(book))),
        Section("differences", "Differences", figures=_built(differences(book))),
        Section("overlap", "Overlap", figures=_built(overlap(book))),
        Section(
            "decoding",
            "Decoding",
            figures=[decoder_controls(book), *_built(tag_signal(book), probes(book))],
        ),
        Section(
            "ablation",
            "Ablation",
            figures=[ladder(book), *_built(when_to_start(book)), *dose_response(book)],
        ),
        Section("abilities", "Utility", figures=[utility(book)]),
        Section(
            "scorer",
            "Scores",
            figures=[*([classifier(book)] if book.inputs.fit else []), *scorer_figures(book)],
        ),
        Section("card", "Data Safety Report Card", figures=report_card(book)),
        Section("runs", "Training", figures=_built(training(book), held_out(book))),
        Section(
            "ledger",
            "The data ledger",
            figures=_tables("ledger-table", "Where every row went", ledger(book), LEDGER),
        ),
        Section(
            "made",
            "How it was made",
            [_digest(params)],
            [
                *_tables("models-table", "What was trained", _models(book), MODELS),
                *_tables("mixtures-table", "What was read", mixtures(book), MIXTURES),
            ],
        ),
    ]
    return [section for section in found if section.figures]


LEDGER = "Every row that was read went out, was dropped by a filter with a name, or lies in the quarantine with its reason."
MODELS = "Rows of models in params.yaml, and the rung of the ladder on which their mixture stands."
MIXTURES = (
    "What each mixture reads, phase by phase: exact tokens, and how often each corpus is read."
)


def _harmless(book: Book) -> list[Figure]:
    return [
        over_refusal(
            book,
            "benign",
            "figure-3",
            "Harmless requests (Figure 3 of the paper)",
            "How requests about everyday acts on the same objects are answered. A model that helps nobody has no "
            "attack success either: read this beside Figure 2. Over-refusal is the last three labels together.",
        ),
        over_refusal(
            book,
            "dual_use",
            "dual-use",
            "Requests that sound harmful and are not",
            "The same for requests such as “whip the cream”: words of harm in a harmless act.",
        ),
    ]


def _built(*figures: Figure | None) -> list[Figure]:
    """The figures of which there is something to show."""
    return [figure for figure in figures if figure]


def _tables(id: str, title: str, table: Table | None, caption: str) -> list[Figure]:
    return [Figure(id, title, caption, tables=[table])] if table else []


def _models(book: Book) -> Table:
    roles = book.measured.roles
    parts = {
        row.name: part for part in ("safe", "filtered", "standard") if (row := getattr(roles, part))
    }
    rows = [
        [
            Cell(model),
            Cell(group.mixture),
            Cell(group.shape),
            Cell(RUNGS[group.rung] if group.rung else "beside the ladder"),
            Cell(parts.get(group.name, "–")),
            Cell("yes" if group.has_tags else "no"),
        ]
        for group in roles.groups
        for model in group.models
    ]
    return Table(
        "Models", ["Model", "Mixture", "Shape", "Rung", "Part in the claims", "Knows the tag"], rows
    )


def _digest(params: Mapping[str, Any]) -> str:
    digest = json_digest(params)
    return (
        f"Digest of the blocks of params.yaml that the report reads ({', '.join(sorted(params))}): {digest[:16]}. "
        "The same params give the same bytes: there is no clock, no host name and no path in this file."
    )
