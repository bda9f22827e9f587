"""The rows that a stage of dvc.yaml reads, from the patterns of its `meta.reads`.

DVC's own templates cannot expand a list (treeverse/dvc#8171). In a pattern, `*` stands for every
output in dvc.yaml that fits, and `{table.key}` for the values of a key in the rows of a table of
params.yaml: `build/{relearn.stage}/{relearn.models}` names the folders that the table reads.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from fnmatch import fnmatch
from itertools import chain, product
from typing import Any

Stages = Mapping[str, Mapping[str, Any]]


def body(stage: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the definition of a stage of dvc.yaml without its `foreach`."""
    return stage.get("do", stage)


def patterns_of(stage: Mapping[str, Any]) -> list[str]:
    """Return the patterns of a stage."""
    return body(stage).get("meta", {}).get("reads", [])


def is_row(path: str, patterns: Iterable[str]) -> bool:
    """Return whether some pattern names this path, for rows of today or of an earlier day."""
    return any(fnmatch(path, re.sub(r"{[\w.]+}", "*", pattern)) for pattern in patterns)


def rows_read(stage: str, stages: Stages, params: Mapping[str, Any]) -> list[str]:
    """Expand the patterns of a stage: the paths that they name, sorted."""
    filled = [path for pattern in patterns_of(stages[stage]) for path in _filled(pattern, params)]
    made = list(outputs(stages, params)) if any("*" in path for path in filled) else []
    found = (_matching(path, made) if "*" in path else [path] for path in filled)
    return sorted(set(chain.from_iterable(found)))


def _matching(pattern: str, outputs: Iterable[str]) -> list[str]:
    depth = pattern.count("/")
    return [path for path in outputs if fnmatch(path, pattern) and path.count("/") == depth]


def _filled(pattern: str, params: Mapping[str, Any]) -> Iterator[str]:
    """Fill the `{table.key}` of a pattern, row by row: all of them are keys of one table."""
    names = re.findall(r"{([\w.]+)}", pattern)
    if not names:
        yield pattern
        return
    (table,) = {name.rpartition(".")[0] for name in names}
    keys = [name.rpartition(".")[2] for name in names]
    for row in _rows_with(keys, _lookup(table, params)):
        for values in product(*(_listed(row[key]) for key in keys)):
            path = pattern
            for name, value in zip(names, values, strict=True):
                path = path.replace(f"{{{name}}}", str(value))
            yield path


def _rows_with(keys: list[str], block: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the rows of a table that have these keys, or the block itself if it has them."""
    candidates = [block, *block.values()]
    found = [row for row in candidates if isinstance(row, Mapping)]
    return [row for row in found if all(isinstance(row.get(key), str | list) for key in keys)]


def outputs(stages: Stages, params: Mapping[str, Any]) -> Iterator[str]:
    """List the outputs of all stages, with DVC's `foreach` and `matrix` resolved."""
    for stage in stages.values():
        for variables in _branches(stage, params):
            for out in body(stage).get("outs", ()):
                yield _substitute(out, {**params, **variables})


def _branches(stage: Mapping[str, Any], params: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    if "foreach" in stage:
        table = _table(stage["foreach"], params)
        for key in table:
            yield {"key": key, "item": table[key] if isinstance(table, Mapping) else key}
    elif "matrix" in stage:
        axes = {name: _table(values, params) for name, values in stage["matrix"].items()}
        for values in product(*axes.values()):
            yield {"item": dict(zip(axes, values, strict=True))}
    else:
        yield {}


def _table(value: Any, params: Mapping[str, Any]) -> Any:
    return _lookup(value[2:-1], params) if isinstance(value, str) else value


def _substitute(text: str, variables: Mapping[str, Any]) -> str:
    return re.sub(r"\${([\w.]+)}", lambda match: str(_lookup(match[1], variables)), text)


def _lookup(name: str, values: Mapping[str, Any]) -> Any:
    found: Any = values
    for part in name.split("."):
        found = found[part]
    return found


def _listed(value: Any) -> list[Any]:
    return value if isinstance(value, list) else [value]
