"""What no single block can see: that the rows of params.yaml fit each other. Nothing is spent
before this passes.
"""

from collections.abc import Iterator
from pathlib import Path

from specs.checks.corpora import _corpora, _dialogues, _engines, _scores, _tags, _tokenizer
from specs.checks.evaluation import Finding, evaluation, stems, words
from specs.checks.mixtures import _mixtures, _models
from specs.checks.scorers import _scorers
from specs.params import Params
from specs.prompt import PROMPTS
from specs.prompt import problems as prompt_problems
from specs.rubric import RUBRICS, Rubric
from specs.scorer import RECIPES, Recipe
from specs.shape import SHAPES, Shape
from specs.suite import SUITES, Suite
from specs.verdict import VERDICTS, VerdictPrompt
from specs.yaml_source import SpecError

KINDS = (
    (Shape, SHAPES),
    (Suite, SUITES),
    (Recipe, RECIPES),
    (Rubric, RUBRICS),
    (VerdictPrompt, VERDICTS),
)


def findings(params: Params) -> Iterator[Finding]:
    """Every contradiction between rows, as (place, message)."""
    yield from _scorers(params)
    yield from _scores(params)
    yield from _tags(params)
    yield from _corpora(params)
    yield from _mixtures(params)
    yield from _models(params)
    yield from _dialogues(params)
    yield from _tokenizer(params.tokenizer)
    yield from _evaluation(params)
    yield from evaluation(params)
    yield from _engines(params)
    yield from _files(params)


def _evaluation(params: Params) -> Iterator[Finding]:
    for field in ("tagged_models_only", "checkpoint_decoders"):
        for name in getattr(params.evaluate, field):
            if name not in params.evaluate.decoders:
                yield (
                    ("evaluate", field),
                    f"must name rows of decoders (got {name}; rows are {words(params.evaluate.decoders)})",
                )
    for name in ("greedy", "safebeam"):
        if name not in params.evaluate.decoders:
            yield (
                ("evaluate", "decoders"),
                f"must have the row `{name}`: the report compares with it",
            )


def _files(params: Params) -> Iterator[Finding]:
    for name, source in params.sources.items():
        if not Path(source.path).exists():
            yield (
                ("sources", name, "path"),
                f"must be a file or folder that exists (got {source.path}){_pattern(source.path)}",
            )
    if not Path(params.card.ngrams).is_file():
        yield ("card", "ngrams"), f"must be a file that exists (got {params.card.ngrams})"
    for block, names in _prompt_names(params):
        for name in names:
            if not (PROMPTS / block / f"{name}.yaml").is_file():
                field = "styles" if block == "rephrase" else "prompts"
                yield (
                    (block, field),
                    f"must name files of specs/prompts/{block} (got {name}; files are {words(stems(PROMPTS / block))})",
                )


def _pattern(path: str) -> str:
    """What to write instead of a pattern: DVC watches files and folders."""
    folder, _, pattern = path.rpartition("/")
    return f"; write path: {folder or '.'} and files: '{pattern}'" if "*" in pattern else ""


def _prompt_names(params: Params) -> list[tuple[str, list[str]]]:
    return [
        ("rephrase", params.rephrase.styles),
        ("refuse", params.refuse.prompts),
        ("educate", params.educate.prompts),
    ]


def check_files() -> None:
    """Every shape, suite and prompt in the repository means what its grammar asks for."""
    problems = prompt_problems()
    for kind, folder in (
        (Shape, SHAPES),
        (Suite, SUITES),
        (Recipe, RECIPES),
        (Rubric, RUBRICS),
        (VerdictPrompt, VERDICTS),
    ):
        for path in sorted(folder.glob("*.yaml")):
            try:
                kind.read(path.stem)
            except SpecError as error:
                problems += error.problems
    if problems:
        raise SpecError(problems)
