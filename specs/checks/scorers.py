"""Checks between scorers and judges."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from specs.checks.files import stems
from specs.document import LABELS, POOL
from specs.engine import Engine, language_models
from specs.messages import Finding, Location, did_you_mean, listed, unknown_file, unknown_row
from specs.params import Params
from specs.rubric import RUBRICS
from specs.scorer import (
    CLASSIFIERS,
    JUDGES,
    LABELLERS,
    RECIPES,
    Assumed,
    Cascade,
    Draw,
    Encoder,
    LabelRows,
    Labels,
    Llm,
    Ngrams,
    ScorerRow,
)

# Columns and folders of the score files, which a scorer's column must not be named like.
RESERVED = ("id", "score", "hazard", "hazards", "shift")


def check_scorers(params: Params) -> Iterator[Finding]:
    """Check the rows of `scorers`, the judges, and the columns of scores."""
    rows = params.scorers
    for name, row in rows.items():
        if name in RESERVED:
            yield (
                ("scorers", name),
                f"must not be called {name}, a column of the score files; choose another name",
            )
        for at, message in _scorer(row, rows, params.engines):
            yield ("scorers", name, *at), message
    yield from _judge(("annotate", "judge"), params.annotate.judge, rows, LABELLERS)
    yield from _judge(("audit", "judge"), params.audit.judge, rows, LABELLERS)
    yield from _pool(params)
    point = params.fit.operating_point
    if point and point.source not in params.sources:
        at = ("fit", "operating_point", "source")
        yield at, unknown_row("sources", point.source, params.sources)
    yield from _columns(params)


def _pool(params: Params) -> Iterator[Finding]:
    """Check the rows of annotate.pool."""
    rows = params.scorers
    for name, row in params.annotate.pool.items():
        at = ("annotate", "pool", name)
        if row.source not in params.sources:
            yield (*at, "source"), unknown_row("sources", row.source, params.sources)
        if row.judge:
            yield from _judge((*at, "judge"), row.judge, rows, LABELLERS)
        for index, other in enumerate(row.beside):
            yield from _judge((*at, "beside", index), other, rows, LABELLERS)
            if other in (*LABELS, POOL):
                yield (
                    (*at, "beside", index),
                    f"must not be called {other}, a column of the labels; rename the row",
                )
        if row.draw:
            yield from _draw((*at, "draw"), row.draw, rows)


def _draw(at: Location, draw: Draw, rows: Mapping[str, ScorerRow]) -> Iterator[Finding]:
    """Check the scorers that a draw depends on, and the labels that they are fitted on."""
    for index, name in enumerate(draw.of):
        if name not in rows:
            yield (*at, "of", index), unknown_row("scorers", name, rows)
        elif rows[name].kind not in (*CLASSIFIERS, *JUDGES):
            yield (
                (*at, "of", index),
                f"must grade every document of the source (got {name}, of kind "
                f"{rows[name].kind}); write a judge or a classifier",
            )
        elif rows[name].kind in CLASSIFIERS and draw.labels is None:
            yield (
                (*at, "labels"),
                f"must name the labels that {name} is fitted on: a row of scorers of kind "
                "label_file, such as a copy of an earlier build/annotate",
            )
    if draw.labels is None:
        return
    row = rows.get(draw.labels)
    if row is None:
        yield (*at, "labels"), unknown_row("scorers", draw.labels, rows)
    elif not isinstance(row, LabelRows) or row.text is None:
        yield (
            (*at, "labels"),
            f"must be a row of kind label_file with `text` (got {draw.labels}, of kind "
            f"{row.kind}), because scorers are fitted on its texts",
        )


def _judge(
    at: Location, judge: str, rows: Mapping[str, ScorerRow], kinds: tuple[str, ...]
) -> Iterator[Finding]:
    if judge not in rows:
        yield at, unknown_row("scorers", judge, rows)
    elif (kind := rows[judge].kind) not in kinds:
        yield (
            at,
            f"must be a judge: a row of kind {listed(kinds)} (got {judge}, of kind {kind})",
        )


def _columns(params: Params) -> Iterator[Finding]:
    rows, columns = params.scorers, params.score.scorers
    for index, name in enumerate(columns):
        if name not in rows:
            yield ("score", "scorers", index), unknown_row("scorers", name, rows)
        elif isinstance(rows[name], Labels | LabelRows | Assumed):
            yield (
                ("score", "scorers", index),
                f"must grade every page by itself (got {name}, of kind {rows[name].kind}); leave "
                "it out, annotate reads it",
            )
    for name in params.score.ensemble.thresholds:
        if name not in columns:
            yield (
                ("score", "ensemble", "of"),
                f"must name columns of score.scorers (got {name}; columns are {listed(columns)})"
                f"{did_you_mean(name, columns)}; add it there or leave it out",
            )


def _scorer(
    row: ScorerRow, rows: Mapping[str, ScorerRow], engines: Mapping[str, Engine]
) -> Iterator[Finding]:
    match row:
        case Ngrams(words=[], characters=[]):
            yield (
                ("words",),
                "must have a length of n-grams where characters has none; write words: [1, 2]",
            )
        case Encoder():
            yield from _encoder(row)
        case Llm():
            yield from _language_model(row, engines)
        case Cascade():
            yield from _cascade(row, rows)


def _cascade(row: Cascade, rows: Mapping[str, ScorerRow]) -> Iterator[Finding]:
    cheap, expensive = rows.get(row.cheap), rows.get(row.expensive)
    if not isinstance(cheap, Ngrams | Encoder):
        yield (
            ("cheap",),
            "must be a row of kind ngrams or encoder, which gives probabilities "
            f"(got {row.cheap}){did_you_mean(row.cheap, set(rows) - {row.cheap})}",
        )
    if expensive is None:
        yield ("expensive",), unknown_row("scorers", row.expensive, rows)
    elif (
        isinstance(expensive, Cascade | Labels | LabelRows | Assumed) or row.expensive == row.cheap
    ):
        yield (
            ("expensive",),
            "must be another row, of a kind that reads pages, and not a cascade "
            f"(got {row.expensive}; rows are {listed(rows)})",
        )


def _language_model(row: Llm, engines: Mapping[str, Engine]) -> Iterator[Finding]:
    models, rubrics = language_models(engines), stems(RUBRICS)
    if row.engine not in models:
        yield ("engine",), language_model_message(row.engine, models)
    if row.rubric not in rubrics:
        yield ("rubric",), unknown_file("specs/prompts/judge", row.rubric, rubrics)


def language_model_message(name: str, models: list[str]) -> str:
    """Return the message that an engine must be a language model."""
    return (
        f"must be a language model of engines (got {name}; those are {listed(models)})"
        f"{did_you_mean(name, models)}"
    )


def _encoder(row: Encoder) -> Iterator[Finding]:
    if row.revision is None and not (Path(row.model) / "config.json").is_file():
        yield (
            ("model",),
            f"must be a folder with config.json (got {row.model}); for a model of the hub write "
            "its commit as revision",
        )
    recipes = stems(RECIPES)
    if row.recipe not in recipes:
        yield ("recipe",), unknown_file("specs/recipes", row.recipe, recipes)
