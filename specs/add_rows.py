"""Experiments: files of rows to add to params.yaml, such as specs/experiments/ablation.yaml.

In an experiment, a model with several seeds is one row. In params.yaml each seed becomes a row of
its own, because DVC builds row by row.
"""

import os
import re
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, Tag

from specs.attacks import AttackRow, Relearn
from specs.comparisons import NewComparisons
from specs.corpus import Corpus, Educate, Rewrite, TagRow
from specs.messages import Location, among, did_you_mean
from specs.mixture import Budget, Mixture, Part, Training
from specs.params import PARAMS, Finetune, Instruct, Params
from specs.spec import Name, OptionalRows, Spec, by_key
from specs.validation import findings
from specs.yaml_source import Problem, SpecError, YamlFile, check, value_at

# A table of rows by name, or one row, as YAML has it.
Block = dict[str, Any]
# The rows of a file, by the location of their table: ("mixtures",) or ("comparisons", "starts").
Tables = dict[Location, Block]
MAX_COLUMNS = 100
EMPTY = re.compile(r":\s*\{\s*\}")


class Seeds(Training):
    """A model with several seeds: `safe` with [1, 2] is the rows `safe` and `safe_2`."""

    seeds: list[Annotated[int, Field(ge=0, lt=2**31)]] = Field(
        min_length=1, description="a list of seeds; the row of the first has the model's name"
    )


class LikeMixture(Spec):
    """A mixture that is like another but for some parts, in every phase that reads them."""

    like: Name = Field(description="a row of `mixtures`, in params.yaml or above in this file")
    set: dict[Name, Part | None] = Field(
        min_length=1,
        description="part: new amount; null leaves it out, and a new part takes its place",
    )


MixtureRow = Annotated[
    Annotated[Mixture, Tag("a mixture")] | Annotated[LikeMixture, Tag("a changed mixture")],
    by_key("like", "a changed mixture", "a mixture"),
]


class Experiment(Spec):
    """A file with rows of params.yaml, in any of these tables.

    Its tables have defaults, unlike those of other grammars: DVC watches not this file but the rows
    that are added from it.
    """

    rephrase: OptionalRows[Rewrite]
    refuse: OptionalRows[Rewrite]
    educate: OptionalRows[Educate]
    tags: OptionalRows[TagRow]
    corpora: OptionalRows[Corpus]
    budgets: OptionalRows[Budget]
    instruct: OptionalRows[Instruct]
    finetune: OptionalRows[Finetune]
    mixtures: OptionalRows[MixtureRow]
    models: OptionalRows[Seeds]
    relearn: OptionalRows[Relearn]
    attacks: OptionalRows[AttackRow]
    comparisons: NewComparisons = Field(default_factory=NewComparisons)


def expand(file: YamlFile, mixtures: Block) -> Tables:
    """Return the rows of an experiment as params.yaml has them, in full.

    `mixtures` are those that `like` may name. Raises SpecError.
    """
    experiment = check(Experiment, file)
    rows: Tables = {}
    for table in file.values:
        if table == "models":
            rows["models",] = _expand_models(file, experiment.models)
        elif table == "mixtures":
            rows["mixtures",] = _expand_mixtures(file, mixtures)
        elif table == "comparisons":
            for name, new in file.values[table].items():
                rows[table, name] = dict(new)
        else:
            rows[table,] = dict(file.values[table])
    return rows


def _expand_models(file: YamlFile, models: dict[str, Seeds]) -> Block:
    rows: Block = {}
    for model, row in models.items():
        for seed in row.seeds:
            name = model if seed == row.seeds[0] else f"{model}_{seed}"
            if name in rows:
                raise file.error_at(
                    ("models", model), f"gives the row {name} twice; give it another name or seed"
                )
            values = {**file.values["models"][model], "seed": seed}
            rows[name] = {key: value for key, value in values.items() if key != "seeds"}
    return rows


def _expand_mixtures(file: YamlFile, known: Block) -> Block:
    rows: Block = {}
    for name, row in file.values["mixtures"].items():
        rows[name] = _changed(file, name, row, known | rows) if "like" in row else row
    return rows


def _changed(file: YamlFile, name: str, row: Block, mixtures: Block) -> Block:
    """Return the mixture that a row is like, with the parts that the row sets."""
    like, changes = row["like"], row["set"]
    others = {other: mixture for other, mixture in mixtures.items() if other != name}
    if like not in others:
        message = f"must be a row of mixtures (got {like}){did_you_mean(like, others)}"
        raise file.error_at(("mixtures", name, "like"), message)
    phases = others[like]["phases"]
    parts: Block = {}
    for phase in phases:
        parts |= phase["parts"]
    new = {part: amount for part, amount in changes.items() if part not in parts}
    leaves_one_out = None in changes.values()
    # A new part has to say whose place it takes, and one that is not there cannot be left out.
    if None in new.values() or (new and not leaves_one_out):
        part = next(iter(new))
        message = f"must be a part of {like} {among(part, 'parts', parts)}, "
        message += "or leave another part out for it: {…: null}"
        raise file.error_at(("mixtures", name, "set", part), message)
    return {"phases": [_changed_phase(phase, changes, new) for phase in phases]}


def _changed_phase(phase: Block, changes: Block, new: Block) -> Block:
    """Set the parts of a phase; new parts take the place of the first that is left out."""
    parts: Block = {}
    for part, old in phase["parts"].items():
        amount = changes.get(part, old)
        if amount is None:
            parts |= new
        else:
            parts[part] = amount
    return {**phase, "parts": parts}


def add(path: Path, target: Path = PARAMS) -> dict[str, list[str]]:
    """Add the rows of an experiment to params.yaml, as text, so that its comments stay.

    Rows that params.yaml already has are left alone. Returns the names of new rows by table.

    Raises:
        SpecError: if a row of the same name has other values, or if the rows do not fit
            params.yaml. Nothing is changed then.
    """
    file, params = YamlFile(path), YamlFile(target)
    check(Params, params)
    rows = expand(file, params.values["mixtures"])
    new = _new_rows(rows, file, params)
    temporary = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        text = insert(params, target.read_text(encoding="utf-8"), new)
        temporary.write_text(text, encoding="utf-8")
        _refuse_misfit(temporary, file, params)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    return {".".join(map(str, at)): list(table) for at, table in new.items()}


def _new_rows(rows: Tables, file: YamlFile, params: YamlFile) -> Tables:
    """Select the rows that params.yaml does not have.

    Raises SpecError for a row that params.yaml has with other values.
    """
    new: Tables = {}
    conflicts = []
    for at, table in rows.items():
        present = value_at(params.values, at)
        new[at] = {}
        for name, row in table.items():
            if name not in present:
                new[at][name] = row
            elif present[name] != row:
                conflicts.append(
                    file.problem(
                        (*at, name),
                        f"is in {params.path} already, with other values; choose another name",
                    )
                )
    file.refuse(conflicts)
    return new


def _refuse_misfit(path: Path, file: YamlFile, params: YamlFile) -> None:
    """Raise SpecError, with lines of the experiment, if its rows do not fit params.yaml."""
    try:
        whole = YamlFile(path)
    except SpecError as error:
        raise SpecError(
            [
                Problem(
                    str(params.path),
                    1,
                    "",
                    "rows cannot be added to a table in brackets or of another indent; "
                    "write one row on each line, behind two spaces",
                )
            ]
        ) from error
    try:
        problems = whole.problems(findings(check(Params, whole)))
    except SpecError as error:
        problems = error.problems
    file.refuse([file.problem_at(problem.at, problem.message) for problem in problems])


def insert(file: YamlFile, text: str, rows: Tables) -> str:
    """Insert rows at the end of their tables; a table may be empty, `{}`."""
    lines = text.splitlines()
    ends = {at: _end(file, at) for at in rows}
    # From the last table up, so that the line numbers of the others stay right.
    for at, end in sorted(ends.items(), key=lambda item: -item[1]):
        if rows[at] and not value_at(file.values, at):
            lines[end - 1] = EMPTY.sub(_spaces, lines[end - 1], count=1).rstrip()
        indent = "  " * len(at)
        new = []
        for name, row in rows[at].items():
            new += [indent + line for line in _lines(name, row)]
        lines[end:end] = new
    return "\n".join(lines) + "\n"


def _end(file: YamlFile, at: Location) -> int:
    """Find the last line of a table."""
    return max(line for key, line in file.ends.items() if key[: len(at)] == at)


def _spaces(found: re.Match[str]) -> str:
    """Replace `: {}` by `:` and spaces, so that a comment after it stays in its column."""
    return ":".ljust(len(found[0]))


def _lines(name: str, row: Any) -> list[str]:
    """Write a row as one would by hand: phases as a list, a long row on several lines."""
    if isinstance(row, dict) and "phases" in row:
        return [f"{name}:", "  phases:", *chain.from_iterable(map(_item, row["phases"]))]
    line = f"{_flow(name)}: {_flow(row)}"
    if not isinstance(row, dict) or len(line) <= MAX_COLUMNS:
        return [line]
    return [f"{name}:", *(f"  {key}: {_flow(value)}" for key, value in row.items())]


def _item(phase: Block) -> list[str]:
    """Write a phase as an item of a list, on as many lines as it needs."""
    # PyYAML breaks a line only after an item that goes beyond the width, hence the margin.
    first, *rest = _flow(phase, MAX_COLUMNS - 30).splitlines()
    return [f"    - {first}", *(f"      {line}" for line in rest)]


def _flow(value: Any, width: float = float("inf")) -> str:
    text = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=width)
    # YAML ends a document that is a single word with `...`.
    return text.removesuffix("...\n").strip()
