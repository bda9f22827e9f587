"""From the folders of build/ to the report: read, measure, judge the claims, draw, write."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelm.builder.paths import build
from safelm.builder.terminal import align_columns
from safelm.report.charts.numbers import NONE, percent
from safelm.report.claim import Claim, verdicts
from safelm.report.claims import claims
from safelm.report.figure import Book
from safelm.report.inputs import Inputs, read_inputs
from safelm.report.page import page
from safelm.report.rates import measure
from safelm.report.roles import decoder_roles, roles
from safelm.report.summary import write
from specs.corpus import Corpus, ScoredCorpus, TagRow
from specs.decoder import DecoderRow
from specs.mixture import Mixture, Model
from specs.paper import Paper
from specs.source import SourceRow


@dataclass(frozen=True, kw_only=True)
class Declared:
    """What params.yaml says of the build that is reported."""

    title: str
    confidence: float
    sources: Mapping[str, SourceRow]
    tags: Mapping[str, TagRow]
    corpora: Mapping[str, Corpus]
    mixtures: Mapping[str, Mixture]
    models: Mapping[str, Model]
    others: Sequence[str]
    decoders: Mapping[str, DecoderRow]
    rephrased_scores: Sequence[int]


def bind(folder: Path, of: Declared) -> tuple[Book, list[Claim]]:
    """Read build/ and measure: everything the figures are drawn from, and the claims."""
    inputs = read_inputs(
        folder,
        models=of.models,
        others=of.others,
        mixtures=of.mixtures,
        corpora=of.corpora,
        sources=of.sources,
        tags=of.tags,
    )
    measured = measure(inputs, roles(of.models, of.mixtures, of.corpora), of.confidence)
    book = Book(
        title=of.title,
        confidence=of.confidence,
        inputs=inputs,
        measured=measured,
        decoders=of.decoders,
        parts=decoder_roles(of.decoders),
        corpora=of.corpora,
        tags=of.tags,
        mixtures=of.mixtures,
        paper=Paper.read(),
        rephrased=[name for name, row in of.corpora.items() if row.from_ == "rephrase"],
        sources=[
            name
            for name, row in of.corpora.items()
            if isinstance(row, ScoredCorpus) and set(row.scores) <= set(of.rephrased_scores)
        ],
    )
    return book, claims(book)


def statement(inputs: Inputs, sources: Mapping[str, SourceRow], engine: str) -> str:
    """What this build is, in a few honest sentences."""
    world = (
        "They read a small made-up world that a grammar in this repository writes, mild in substance; every verb "
        "and object of the requests was seen in training, the combinations were not. That world was shaped while "
        "looking at such models' answers to these requests, so the rates are exploratory: read orders, not decimals."
        if sources["web"].reader == "demo"
        else "They read real web pages and are asked the requests of specs/suites."
    )
    written = (
        " The synthetic text was written from templates, not by a language model."
        if engine == "template"
        else ""
    )
    return (
        f"This is a miniature of the paper “Safety Pretraining”: the same method with {_size(inputs)} in place of "
        f"one with 1.7 billion parameters. {world}{written} It is an instrument, not an advertisement: what it "
        "measures is shown with its uncertainty, beside the paper's numbers, whether or not the two agree."
    )


def _size(inputs: Inputs) -> str:
    """How large the models are, as their training logs say."""
    sizes = [run.get("parameters") for run in inputs.training.values()]
    known = [size for size in sizes if isinstance(size, int)]
    count = len(inputs.metrics)
    models = "one model" if count == 1 else f"{count} models"
    return (
        f"{models} of {max(known) / 1e6:,.2f} million parameters"
        if known
        else f"{models} of far fewer parameters"
    )


def make_report(
    folder: Path, *, declared: Declared, engine: str, params: Mapping[str, Any]
) -> list[str]:
    """Read what was measured, judge the claims and write the page; what the stage prints."""
    book, found = bind(build(), declared)
    build_report(
        folder,
        book,
        found,
        statement=statement(book.inputs, declared.sources, engine),
        params=params,
    )
    return [*screen(book, found), f"report: {build('report', 'index.html')}"]


def build_report(
    folder: Path, book: Book, found: Sequence[Claim], *, statement: str, params: Mapping[str, Any]
) -> None:
    """Write every file of the report."""
    write(folder, book, found, page(book, found, statement=statement, params=params))


def screen(book: Book, found: Sequence[Claim]) -> list[str]:
    """The report in one screen of a terminal."""
    measured, parts = book.measured, book.parts
    head = ("model", "stage", "ASR", "SafeBeam", "benign", "over-refusal", "utility")
    rows = [
        (
            group.name,
            stage,
            *(
                percent(rate.value if rate else None)
                for rate in (
                    measured.asr(group, stage, parts.plain),
                    measured.asr(group, stage, parts.safebeam),
                    measured.complied(group, stage, parts.plain),
                    measured.over_refusal(group, stage, parts.plain),
                    measured.accuracy(group, stage),
                )
            ),
        )
        for group in measured.built()
        for stage in measured.stages(group)
    ]
    counts = ", ".join(f"{count} {verdict}" for verdict, count in verdicts(found).items()) or NONE
    return [*align_columns([head, *rows], 2), f"claims: {counts}"]
