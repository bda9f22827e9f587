"""Check params.yaml and every shape, suite and prompt it names, in under a second and before
anything is spent.

python -m specs                              say what is wrong, each with file and line; exit 1 if
anything is python -m specs --add specs/experiments/ablation.yaml    first add the rows of a file,
each model once for each of its seeds python -m specs --schema                     write the JSON
schema of params.yaml for editors"""

import argparse
import json
import sys
from pathlib import Path

from specs.add_rows import add
from specs.checks.params import check_files, findings
from specs.params import PARAMS, Params
from specs.yaml_source import Problem, SpecError, YamlFile, check

SCHEMA = Path(__file__).parent / "params.schema.json"


def read(path: Path = PARAMS) -> Params:
    """params.yaml, checked as a whole."""
    file = YamlFile(path)
    params = check(Params, file)
    file.refuse([file.problem(at, message) for at, message in findings(params)])
    return params


def schema() -> str:
    """The JSON schema of params.yaml."""
    return json.dumps(Params.model_json_schema(by_alias=True), indent=1, ensure_ascii=False) + "\n"


def problems(path: Path = PARAMS) -> list[Problem]:
    """Everything that is wrong with params.yaml and the files beside it."""
    found: list[Problem] = []
    for step in (check_files, lambda: read(path)):
        try:
            step()
        except SpecError as error:
            found += error.problems
    return found


def added(path: Path) -> str:
    """Add the rows of a file; what was added, in a sentence."""
    try:
        rows = add(path)
    except SpecError as error:
        raise SystemExit(str(error)) from error
    counts = " and ".join(f"{len(names)} rows of {table}" for table, names in rows.items())
    return f"{PARAMS}: {counts} added from {path}; `make repro` builds their branches"


def main() -> None:
    """Print what is wrong, or one line that says all is well."""
    parser = argparse.ArgumentParser(
        prog="python -m specs", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--schema", action="store_true", help="write specs/params.schema.json")
    parser.add_argument(
        "--add", type=Path, metavar="FILE", help="rows of mixtures, models, relearn or attacks"
    )
    asked = parser.parse_args()
    if asked.schema:
        SCHEMA.write_text(schema(), encoding="utf-8")
        print(f"wrote {SCHEMA.name}")
        return
    if asked.add:
        print(added(asked.add))
    found = problems()
    for problem in found:
        print(problem, file=sys.stderr)
    if found:
        raise SystemExit(1)
    params = read()
    print(
        f"params.yaml is sound: {len(params.sources)} sources, {len(params.corpora)} corpora, "
        f"{len(params.mixtures)} mixtures, {len(params.models)} models"
    )


if __name__ == "__main__":
    main()
