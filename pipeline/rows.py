"""Rows of params.yaml that a stage of dvc.yaml reads, from the patterns of its `meta.reads`.

A stage writes patterns because DVC's own templates cannot expand a list (treeverse/dvc#8171):

    *            any part of the path of an output in dvc.yaml, up to the next slash
    {table.key}  the values of a key, from every row of a table of params.yaml that has it

So `build/{relearn.stage}/{relearn.models}` names the model folders that the rows of `relearn` read.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

PLACEHOLDER = re.compile(r"{([\w.]+)\.(\w+)}")  # {table.key} in a pattern
OWN = ("build/", "specs/", "safelm/", "pipeline/")  # folders of the project
TEMPLATE = re.compile(r"\${([\w.]+)}")  # ${name} in DVC's own syntax

Block = Mapping[str, Any]  # a mapping as YAML has it
Stages = Mapping[str, Block]


def body(stage: Block) -> Block:
    """Return the definition of a stage, which a `foreach` keeps under `do`."""
    return stage.get("do", stage)


def patterns_of(stage: Block) -> list[str]:
    """Return the patterns of a stage."""
    return body(stage).get("meta", {}).get("reads", [])


def is_row(path: str, patterns: Iterable[str]) -> bool:
    """Return whether a pattern fits this path, for any row: one since removed fits too."""
    for pattern in patterns:
        any_row = PLACEHOLDER.sub("*", pattern)
        # A path that params.yaml gives as a whole is a file of the user, wherever it lies.
        is_ours = any_row == "*" and path.startswith(OWN)
        if fnmatch.fnmatch(path, any_row) and not is_ours:
            return True
    return False


def rows_read(stage: str, stages: Stages, params: Block) -> list[str]:
    """Expand the patterns of a stage into paths, sorted."""
    all_outputs = list(outputs(stages, params))
    paths = set[str]()
    for pattern in patterns_of(stages[stage]):
        for path in _fill_from_params(pattern, params):
            # A star matches outputs; any other path is read whether a stage makes it or not.
            found = _matching(path, all_outputs) if "*" in path else [path]
            paths.update(found)
    return sorted(paths)


def outputs(stages: Stages, params: Block) -> Iterator[str]:
    """List the outputs of all stages, with DVC's `foreach` and `matrix` expanded."""
    for stage in stages.values():
        for variables in _variables_of(stage, params):
            # The variables of a stage hide the tables of params.yaml, as they do in DVC.
            values = {**params, **variables}
            for out in body(stage).get("outs", ()):
                yield _substitute(out, values)


def _matching(pattern: str, paths: Iterable[str]) -> list[str]:
    # The star of fnmatch also matches slashes, so count them.
    depth = pattern.count("/")
    found = fnmatch.filter(paths, pattern)
    return [path for path in found if path.count("/") == depth]


def _fill_from_params(pattern: str, params: Block) -> Iterator[str]:
    """Fill the placeholders of a pattern from each row of their table.

    All placeholders of one pattern belong to one table.
    """
    placeholders = PLACEHOLDER.findall(pattern)
    if not placeholders:
        yield pattern
        return
    keys = [key for _, key in placeholders]
    # Fails where a pattern mixes tables, whose rows have nothing in common.
    (table,) = {table for table, _ in placeholders}
    block = _look_up(table, params) or {}  # a block may be null
    # `{rephrase.styles}` is a key of the block itself, `{relearn.models}` one of its rows.
    for row in (block, *block.values()):
        if _has_names(row, keys):
            yield from _fill(pattern, row)


def _has_names(row: Any, keys: Iterable[str]) -> bool:
    """Return whether each key holds a name or a list of names."""
    return isinstance(row, Mapping) and all(isinstance(row.get(key), str | list) for key in keys)


def _fill(pattern: str, row: Block) -> Iterator[str]:
    """Fill the placeholders from one row, with every value of a list in turn."""
    placeholder = PLACEHOLDER.search(pattern)
    if placeholder is None:
        yield pattern
        return
    values = row[placeholder[2]]
    if not isinstance(values, list):
        values = [values]
    for value in values:
        filled = pattern.replace(placeholder[0], str(value))
        # The next placeholder, until none is left: all combinations of lists come about.
        yield from _fill(filled, row)


def _variables_of(stage: Block, params: Block) -> Iterator[dict[str, Any]]:
    """Yield the template variables of each stage that a `foreach` or `matrix` generates."""
    if "foreach" in stage:
        table = _resolve(stage["foreach"], params)
        rows = table if isinstance(table, Mapping) else {key: key for key in table}
        for key, row in rows.items():
            yield {"key": key, "item": row}
    elif "matrix" in stage:
        axes = {name: _resolve(values, params) for name, values in stage["matrix"].items()}
        for values in product(*axes.values()):
            item = dict(zip(axes, values, strict=True))
            yield {"item": item}
    else:
        yield {}


def _resolve(value: Any, params: Block) -> Any:
    """Return the block that `${block}` names, or the value itself."""
    if isinstance(value, str):
        name = value.removeprefix("${").removesuffix("}")
        return _look_up(name, params)
    return value


def _substitute(text: str, variables: Block) -> str:
    """Replace every `${name}` by its value."""
    return TEMPLATE.sub(lambda match: str(_look_up(match[1], variables)), text)


def _look_up(name: str, values: Block) -> Any:
    """Return a value by its dotted name, or an empty table."""
    found: Any = values
    for part in name.split("."):
        # A key without a value is None in YAML.
        found = (found or {}).get(part, {})
    return found
