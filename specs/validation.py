"""Validation of params.yaml and of every shape, suite and prompt that it names.

It takes less than a second and comes before anything is spent.
"""

import json
from pathlib import Path

from specs.checks.files import check_files
from specs.checks.params import findings
from specs.params import PARAMS, Params
from specs.yaml_source import Problem, SpecError, YamlFile, check

SCHEMA = Path(__file__).parent / "params.schema.json"


def read(path: Path = PARAMS) -> Params:
    """Read params.yaml and check it as a whole. Raises SpecError."""
    file = YamlFile(path)
    params = check(Params, file)
    file.refuse([file.problem(at, message) for at, message in findings(params)])
    return params


def schema() -> str:
    """Return the JSON schema of params.yaml."""
    return json.dumps(Params.model_json_schema(by_alias=True), indent=1, ensure_ascii=False) + "\n"


def problems(path: Path = PARAMS) -> list[Problem]:
    """List everything that is wrong with params.yaml and the files beside it."""
    mistakes: list[Problem] = []
    for step in (check_files, lambda: read(path)):
        try:
            step()
        except SpecError as error:
            mistakes += error.problems
    return mistakes
