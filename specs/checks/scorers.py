"""Check scorers and judges of params.yaml against each other."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from specs.checks.evaluation import Finding, stems, words
from specs.engine import Engine
from specs.params import Params
from specs.rubric import RUBRICS
from specs.scorer import (
    JUDGES,
    LABELLERS,
    RECIPES,
    Cascade,
    Encoder,
    Labels,
    Llm,
    Ngrams,
    ScorerRow,
)

RESERVED = ("id", "score", "hazard", "hazards")


def _scorers(params: Params) -> Iterator[Finding]:
    rows = params.scorers
    for name, row in rows.items():
        if name in RESERVED:
            yield (
                ("scorers", name),
                f"must not be called {name}, a column of the score files; give it another name",
            )
        yield from (
            (("scorers", name, *at), message) for at, message in _scorer(row, rows, params.engines)
        )
    for block, judge, kinds in (
        ("annotate", params.annotate.judge, LABELLERS),
        ("audit", params.audit.judge, JUDGES),
    ):
        if judge not in rows:
            yield (
                (block, "judge"),
                f"must be a row of scorers (got {judge}; rows are {words(rows)})",
            )
        elif rows[judge].kind not in kinds:
            yield (
                (block, "judge"),
                f"must be a judge: a row of kind {words(kinds)} (got {rows[judge].kind})",
            )
    for place, name in enumerate(params.score.scorers):
        if name not in rows:
            yield (
                ("score", "scorers", place),
                f"must be a row of scorers (got {name}; rows are {words(rows)})",
            )
        elif isinstance(rows[name], Labels):
            yield (
                ("score", "scorers", place),
                f"must grade every page (got {name}, the labels that some have); leave it out, annotate.judge reads it",
            )
    for name in params.score.ensemble.thresholds:
        if name not in params.score.scorers:
            yield (
                ("score", "ensemble", "of"),
                f"must name columns of score.scorers (got {name}; columns are {words(params.score.scorers)}); "
                "add it there or leave it out",
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
            yield from _judge(row, engines)
        case Cascade():
            cheap, expensive = rows.get(row.cheap), rows.get(row.expensive)
            if not isinstance(cheap, Ngrams | Encoder):
                yield (
                    ("cheap",),
                    f"must be a row of kind ngrams or encoder, which gives probabilities (got {row.cheap})",
                )
            if (
                expensive is None
                or isinstance(expensive, Cascade | Labels)
                or row.expensive == row.cheap
            ):
                yield (
                    ("expensive",),
                    f"must be another row, of a kind that reads pages, and not a cascade (got {row.expensive}; rows are "
                    f"{words(rows)})",
                )


def _judge(row: Llm, engines: Mapping[str, Engine]) -> Iterator[Finding]:
    models, rubrics = (
        [name for name, engine in engines.items() if engine.kind != "template"],
        stems(RUBRICS),
    )
    if row.engine not in models:
        yield (
            ("engine",),
            f"must be a language model of engines (got {row.engine}; those are {words(models)})",
        )
    if row.rubric not in rubrics:
        yield (
            ("rubric",),
            f"must be a file of specs/prompts/judge (got {row.rubric}; files are {words(rubrics)})",
        )


def _encoder(row: Encoder) -> Iterator[Finding]:
    if row.revision is None and not (Path(row.model) / "config.json").is_file():
        yield (
            ("model",),
            f"must be a folder with config.json (got {row.model}); for one of the hub write its commit as revision",
        )
    if row.recipe not in stems(RECIPES):
        yield (
            ("recipe",),
            f"must be a file of specs/recipes (got {row.recipe}; files are {words(stems(RECIPES))})",
        )
