"""Checks of the files that rows name: shapes, suites, recipes, rubrics and prompts."""

from pathlib import Path

from specs.judge import VERDICTS, VerdictPrompt
from specs.messages import Findings
from specs.params import Params
from specs.prompt import problems as prompt_problems
from specs.rubric import RUBRICS, Rubric
from specs.scorer import RECIPES, Recipe
from specs.shape import SHAPES, Shape
from specs.suite import SUITES, Suite
from specs.yaml_source import SpecError

GRAMMARS = (
    (Shape, SHAPES),
    (Suite, SUITES),
    (Recipe, RECIPES),
    (Rubric, RUBRICS),
    (VerdictPrompt, VERDICTS),
)


def stems(folder: Path) -> list[str]:
    """List the names of the YAML files of a folder, without .yaml."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def check_files() -> None:
    """Check every shape, suite, recipe, rubric and prompt. Raises SpecError."""
    problems = prompt_problems()
    for grammar, folder in GRAMMARS:
        for name in stems(folder):
            try:
                grammar.read(name)
            except SpecError as error:
                problems += error.problems
    if problems:
        raise SpecError(problems)


def check_card(params: Params) -> Findings:
    """Require the hazard n-grams of report cards."""
    if not Path(params.card.ngrams).is_file():
        yield ("card", "ngrams"), f"must be a file that exists (got {params.card.ngrams})"
