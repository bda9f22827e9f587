"""Rows for params.yaml that stand in a file of their own, such as specs/experiments/ablation.yaml:
an experiment as a whole.

A model of such a file is one row for all of its seeds. In params.yaml, whose rows are the branches
that DVC builds, each seed is a row of its own."""

import os
import re
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field

from specs.attacks import Attack, Relearn
from specs.checks.params import findings
from specs.corpus import Corpus, TagRow
from specs.mixture import Mixture
from specs.params import PARAMS, Params
from specs.spec import Name, Spec
from specs.yaml_source import Problem, SpecError, YamlFile, check

Rows = dict[str, dict[str, dict[str, Any]]]  # by table and name
WIDE = 120  # a row that is longer on one line has a line for each of its keys


class Seeds(Spec):
    """A model with several seeds: `safe` with [1, 2, 3] is the rows `safe`, `safe_2` and `safe_3`."""

    mixture: Name = Field(description="a row of `mixtures`, there or in params.yaml")
    shape: str = Field(min_length=1, description="a file of specs/shapes, without .yaml")
    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        min_length=1, description="a list of seeds; the row of the first has the model's name"
    )


class Experiment(Spec):
    """A file of rows as in params.yaml, but of `models`, which have their seeds. It may leave out
    any of these tables.

    DVC does not watch such a file, only the rows that are written of it: so here there are
    defaults."""

    tags: dict[Name, TagRow] = Field(default_factory=dict)
    corpora: dict[Name, Corpus] = Field(default_factory=dict)
    mixtures: dict[Name, Mixture] = Field(default_factory=dict)
    models: dict[Name, Seeds] = Field(default_factory=dict)
    relearn: dict[Name, Relearn] = Field(default_factory=dict)
    attacks: dict[Name, Attack] = Field(default_factory=dict)


def expanded(file: YamlFile) -> Rows:
    """The rows of a file as params.yaml has them, a model for each seed. Raises SpecError."""
    models: dict[str, dict[str, Any]] = {}
    experiment = check(Experiment, file)
    for model, row in experiment.models.items():
        for seed in row.seeds:
            name = model if seed == row.seeds[0] else f"{model}_{seed}"
            if name in models:
                file.refuse(
                    [
                        file.problem(
                            ("models", model),
                            f"gives the row {name} twice; give it another name or seed",
                        )
                    ]
                )
            models[name] = {"mixture": row.mixture, "shape": row.shape, "seed": seed}
    named = [table for table in Experiment.model_fields if table in experiment.model_fields_set]
    return {table: models if table == "models" else dict(file.values[table]) for table in named}


def add(path: Path, target: Path = PARAMS) -> dict[str, list[str]]:
    """Add the rows of a file to params.yaml, as text, so that what stands there stays as it is; the
    names, by table.

    A row that is there already is left alone. Raises SpecError, and changes nothing, where a row of
    the same name means something else, or where the rows do not fit params.yaml."""
    file, params = YamlFile(path), YamlFile(target)
    rows = expanded(file)
    check(Params, params)
    there = {table: params.values[table] for table in rows}
    file.refuse(
        [
            file.problem(
                (table, name),
                f"stands in {target} already, and means something else; give it another name",
            )
            for table, found in rows.items()
            for name, row in found.items()
            if there[table].get(name, row) != row
        ]
    )
    new = {
        table: {name: row for name, row in found.items() if name not in there[table]}
        for table, found in rows.items()
    }
    aside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        aside.write_text(
            inserted(params, target.read_text(encoding="utf-8"), new), encoding="utf-8"
        )
        _refuse_misfit(aside, file, params)
        aside.replace(target)
    finally:
        aside.unlink(missing_ok=True)
    return {table: list(found) for table, found in new.items()}


def _refuse_misfit(path: Path, file: YamlFile, params: YamlFile) -> None:
    """Raise SpecError with the lines of the rows' own file where params.yaml would not be sound
    with them.
    """
    try:
        whole = YamlFile(path)
    except SpecError as error:
        message = "rows cannot be added to a table in brackets or of another indent; write a row a line, behind two spaces"
        raise SpecError([Problem(str(params.path), 1, "", message)]) from error
    try:
        problems = [whole.problem(at, message) for at, message in findings(check(Params, whole))]
    except SpecError as error:
        problems = error.problems
    file.refuse(
        [
            item
            for problem in problems
            for item in file.located(f"{problem.at}: {problem.message}").problems
        ]
    )


def inserted(file: YamlFile, text: str, rows: Rows) -> str:
    """The text of a file with rows behind the last ones of their tables, also of those that were
    empty, `{}`.
    """
    lines = text.splitlines()
    ends = {
        table: max(line for at, line in file.ends.items() if at[:1] == (table,)) for table in rows
    }
    for table, end in sorted(ends.items(), key=lambda item: -item[1]):
        if rows[table] and not file.values[table]:
            lines[end - 1] = re.sub(r":\s*\{\s*\}", ":", lines[end - 1], count=1)
        lines[end:end] = [line for name, row in rows[table].items() for line in _lines(name, row)]
    return "\n".join(lines) + "\n"


def _lines(name: str, row: dict[str, Any]) -> list[str]:
    """A row as people write it: a mixture with a line for each phase, a model on one line, a long
    row on several.
    """
    if "phases" in row:
        return [
            f"  {name}:",
            "    phases:",
            *(f"      - {_flow(phase)}" for phase in row["phases"]),
        ]
    if len(line := f"  {name}: {_flow(row)}") <= WIDE:
        return [line]
    return [f"  {name}:", *(f"    {key}: {_flow(value)}" for key, value in row.items())]


def _flow(value: Any) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=float("inf"))
    return text.removesuffix("...\n").strip()  # a word alone is a document of its own
