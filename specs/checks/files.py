"""Checks of the files that rows name: shapes, suites, recipes, rubrics and prompts."""

from pathlib import Path

from specs.judge import JUDGES, JudgePrompt
from specs.messages import Findings
from specs.params import Params
from specs.prompt import problems as prompt_problems
from specs.rubric import RUBRICS, Rubric
from specs.scorer import RECIPES, Recipe
from specs.shape import SHAPES, read_shape
from specs.suite import SUITES, Suite
from specs.yaml_source import SpecError

READERS = (
    (read_shape, SHAPES),
    (Suite.read, SUITES),
    (Recipe.read, RECIPES),
    (Rubric.read, RUBRICS),
    (JudgePrompt.read, JUDGES),
)


def stems(folder: Path) -> list[str]:
    """List the names of the YAML files of a folder, without .yaml."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


def check_files() -> None:
    """Check every shape, suite, recipe, rubric and prompt. Raises SpecError."""
    problems = prompt_problems()
    for read, folder in READERS:
        for name in stems(folder):
            try:
                read(name)
            except SpecError as error:
                problems += error.problems
    if problems:
        raise SpecError(problems)


def check_card(params: Params) -> Findings:
    """Require the hazard n-grams of report cards."""
    if not Path(params.card.ngrams).is_file():
        yield ("card", "ngrams"), f"must be a file that exists (got {params.card.ngrams})"
