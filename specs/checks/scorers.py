"""Checks between scorers, judges and engines."""

from collections.abc import Mapping

from specs.checks.references import ASKED, LABELLED_BY
from specs.document import LABELS, POOL
from specs.engine import language_models
from specs.messages import Findings, Location, among, did_you_mean, listed
from specs.params import Params
from specs.scorer import (
    CLASSIFIERS,
    JUDGES,
    LABELLERS,
    Cascade,
    Draw,
    Encoder,
    GivenLabels,
    LabelRows,
    Ngrams,
    ScorerRow,
)
from specs.spec import values_at

# Columns and folders of the score files, which a scorer's column must not be named like.
RESERVED = ("id", "score", "hazard", "hazards", "shift")

ScorerRows = Mapping[str, ScorerRow]


def check_scorers(params: Params) -> Findings:
    """Check the rows of `scorers`, the judges, and the columns of scores."""
    rows = params.scorers
    for name, row in rows.items():
        if name in RESERVED:
            yield (
                ("scorers", name),
                f"must not be called {name}, a column of the score files; choose another name",
            )
        for at, message in _scorer(row, rows):
            yield ("scorers", name, *at), message
    for at, name in values_at(params, *LABELLED_BY):
        kind = _kind(name, rows)
        if kind not in (None, *LABELLERS):
            expected = f"must be a judge: a row of kind {listed(LABELLERS)}"
            yield at, f"{expected} (got {name}, of kind {kind})"
    models = language_models(params.engines)
    for at, name in values_at(params, *ASKED):
        if name not in models:
            yield at, f"must be a language model of engines {among(name, 'those', models)}"
    for at, name in values_at(params, "annotate.pool.*.beside.*"):
        if name in (*LABELS, POOL):
            yield at, f"must not be called {name}, a column of the labels; rename the row"
    for at, draw in values_at(params, "annotate.pool.*.draw"):
        yield from _draw(at, draw, rows)
    yield from _columns(params)


def _draw(at: Location, draw: Draw, rows: ScorerRows) -> Findings:
    """Check the scorers that a draw depends on, and the labels that they are fitted on."""
    for index, name in enumerate(draw.of):
        kind = _kind(name, rows)
        if kind not in (None, *CLASSIFIERS, *JUDGES):
            yield (
                (*at, "of", index),
                f"must grade every document of the source (got {name}, of kind {kind}); "
                "write a judge or a classifier",
            )
        elif kind in CLASSIFIERS and draw.labels is None:
            yield (
                (*at, "labels"),
                f"must name the labels that {name} is fitted on: a row of scorers of kind "
                "label_file, such as a copy of an earlier build/annotate",
            )
    row = rows.get(draw.labels or "")
    if row and not (isinstance(row, LabelRows) and row.text is not None):
        yield (
            (*at, "labels"),
            f"must be a row of kind label_file with `text` (got {draw.labels}, of kind "
            f"{row.kind}), because scorers are fitted on its texts",
        )


def _kind(name: str, rows: ScorerRows) -> str | None:
    return rows[name].kind if name in rows else None


def _columns(params: Params) -> Findings:
    rows, columns = params.scorers, params.score.scorers
    for at, name in values_at(params, "score.scorers.*"):
        if isinstance(rows.get(name), GivenLabels) and rows[name].kind != "labels":
            yield (
                at,
                f"must grade every page by itself (got {name}, of kind {rows[name].kind}); leave "
                "it out, annotate reads it",
            )
    for name in params.score.ensemble.thresholds:
        if name not in columns:
            yield (
                ("score", "ensemble", "of"),
                f"must name columns of score.scorers {among(name, 'columns', columns)}; "
                "add it there or leave it out",
            )


def _scorer(row: ScorerRow, rows: ScorerRows) -> Findings:
    match row:
        case Ngrams(words=[], characters=[]):
            yield (
                ("words",),
                "must have a length of n-grams where characters has none; write words: [1, 2]",
            )
        case Cascade():
            yield from _cascade(row, rows)


def _cascade(row: Cascade, rows: ScorerRows) -> Findings:
    cheap, expensive = rows.get(row.cheap), rows.get(row.expensive)
    if not isinstance(cheap, Ngrams | Encoder):
        yield (
            ("cheap",),
            "must be a row of kind ngrams or encoder, which gives probabilities "
            f"(got {row.cheap}){did_you_mean(row.cheap, set(rows) - {row.cheap})}",
        )
    is_same = expensive is not None and row.expensive == row.cheap
    if is_same or isinstance(expensive, Cascade | GivenLabels):
        yield (
            ("expensive",),
            "must be another row, of a kind that reads pages, and not a cascade "
            f"(got {row.expensive}; rows are {listed(rows)})",
        )
