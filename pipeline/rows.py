"""The rows that a stage of dvc.yaml reads, from the patterns of its `meta.reads`.

DVC's own templates cannot expand a list (treeverse/dvc#8171). In a pattern, `*` stands for every
output in dvc.yaml that fits, and `{table.key}` for the values of a key in the rows of a table of
params.yaml: `build/{relearn.stage}/{relearn.models}` names the folders that the table reads.
"""

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

KEY = re.compile(r"{([\w.]+)}")  # {table.key} of a pattern
TEMPLATE = re.compile(r"\${([\w.]+)}")  # ${name} of DVC

Stages = Mapping[str, Mapping[str, Any]]


def body(stage: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition of a stage of dvc.yaml without its `foreach`."""
    return stage.get("do", stage)


def patterns_of(stage: Mapping[str, Any]) -> list[str]:
    """Return the patterns of a stage."""
    return body(stage).get("meta", {}).get("reads", [])


def is_row(path: str, patterns: Iterable[str]) -> bool:
    """Return whether some pattern names this path, for rows of today or of an earlier day."""
    return any(fnmatch.fnmatch(path, KEY.sub("*", pattern)) for pattern in patterns)


def rows_read(stage: str, stages: Stages, params: Mapping[str, Any]) -> list[str]:
    """Expand the patterns of a stage: the paths that they name, sorted."""
    made = list(outputs(stages, params))
    paths = set[str]()
    for pattern in patterns_of(stages[stage]):
        for path in _filled(pattern, params):
            paths.update(_matching(path, made) if "*" in path else [path])
    return sorted(paths)


def outputs(stages: Stages, params: Mapping[str, Any]) -> Iterator[str]:
    """List the outputs of all stages, with DVC's `foreach` and `matrix` resolved."""
    for stage in stages.values():
        for variables in _branches(stage, params):
            for out in body(stage).get("outs", ()):
                yield _substitute(out, {**params, **variables})


def _matching(pattern: str, paths: Iterable[str]) -> list[str]:
    # A star of fnmatch would also stand for a slash.
    depth = pattern.count("/")
    return [path for path in fnmatch.filter(paths, pattern) if path.count("/") == depth]


def _filled(pattern: str, params: Mapping[str, Any]) -> Iterator[str]:
    """Fill the `{table.key}` of a pattern, row by row: all of them are keys of one table."""
    names = KEY.findall(pattern)
    if not names:
        yield pattern
        return
    (table,) = {name.rpartition(".")[0] for name in names}
    keys = [name.rpartition(".")[2] for name in names]
    for row in _rows_with(keys, _look_up(table, params)):
        choices = [row[key] if isinstance(row[key], list) else [row[key]] for key in keys]
        for values in product(*choices):
            replacements = iter(values)
            yield KEY.sub(lambda match: str(next(replacements)), pattern)  # noqa: B023


def _rows_with(keys: list[str], block: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the rows of a table that have these keys, or the block itself if it has them."""
    for row in (block, *block.values()):
        if isinstance(row, Mapping) and all(isinstance(row.get(key), str | list) for key in keys):
            yield row


def _branches(stage: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the variables of each stage that an entry of dvc.yaml stands for."""
    if "foreach" in stage:
        table = _resolve(stage["foreach"], params)
        for key in table:
            yield {"key": key, "item": table[key] if isinstance(table, Mapping) else key}
    elif "matrix" in stage:
        axes = {name: _resolve(values, params) for name, values in stage["matrix"].items()}
        for values in product(*axes.values()):
            yield {"item": dict(zip(axes, values, strict=True))}
    else:
        yield {}


def _resolve(value: Any, params: Mapping[str, Any]) -> Any:
    return _look_up(value[2:-1], params) if isinstance(value, str) else value


def _substitute(text: str, variables: Mapping[str, Any]) -> str:
    return TEMPLATE.sub(lambda match: str(_look_up(match[1], variables)), text)


def _look_up(name: str, values: Mapping[str, Any]) -> Any:
    """Return a value by its dotted name; an empty table where there is none."""
    found: Any = values
    for part in name.split("."):
        found = (found or {}).get(part, {})
    return found
