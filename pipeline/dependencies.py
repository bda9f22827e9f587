"""Derived dependencies of dvc.yaml: the rows and the code that each stage reads.

    python -m pipeline.dependencies           write them, as `make format` does
    python -m pipeline.dependencies --check   exit with 1 if they are out of date, as `make check`

The `deps` of a stage are, in this order: inputs, written by hand; rows, one path for each that a
pattern of its `meta.reads` names (pipeline/rows.py); code, the modules that decide the keys of what
it makes.

`safelm build`, `safelm check` and `safelm add` write the rows too, so that they follow params.yaml.
A bare `dvc repro` cannot: there a stage whose rows are out of date stops with a message.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml

from pipeline.rows import Stages, body, is_row, patterns_of, rows_read
from safelm.builder.files import write_synced
from safelm.builder.fingerprint import Module, import_closure
from safelm.builder.locks import StageError
from specs.params import PARAMS
from specs.yaml_source import YamlFile

DVC_YAML = Path("dvc.yaml")
# The build system and the grammars count where blocks and artifact functions import them. What a
# stage's own module imports of them decides no key.
NEUTRAL = ("safelm.builder.", "specs.", "pipeline.arguments")
# Name a folder, not its modules, where a stage depends on more than this share of them. It keeps
# the lists short. An edit of the rest makes DVC look at the stage once more and find its key
# unchanged.
FOLDER_SHARE = 0.75
WIDTH = 86
UNBROKEN: Any = {"break_long_words": False, "break_on_hyphens": False}


def code_read(stage: str) -> list[str]:
    """List the files and folders of first-party code that a stage depends on.

    These are the modules of pipeline/ that it consists of, and the import closure of what they
    import, as it enters the keys of blocks and artifacts (safelm/builder/fingerprint.py).
    """
    own = _own_modules(f"pipeline.{stage}")
    imported = set().union(*(module.imports for module in own.values()))
    starts = {name for name in imported if not name.startswith((*NEUTRAL, "pipeline"))}
    files = {_path(name) for name in import_closure(starts)}
    stage_files = sorted(str(_path(name)) for name in own)
    grammars = sorted(str(path) for path in files if path.parts[0] == "specs")
    return [*stage_files, *_covered(Path("safelm"), files, top=True), *grammars]


def _own_modules(entry: str) -> dict[str, Module]:
    """Return the module of a stage and the modules of pipeline/ that it shares with others."""
    closure = import_closure([entry])
    found, waiting = {}, [entry]
    while waiting:
        name = waiting.pop()
        if name in found or name.startswith(NEUTRAL) or name == "pipeline":
            continue
        found[name] = closure[name]
        waiting += [other for other in closure[name].imports if other.startswith("pipeline.")]
    return found


def _path(module: str) -> Path:
    path = Path(*module.split("."))
    return path / "__init__.py" if path.is_dir() else path.with_suffix(".py")


def _covered(folder: Path, files: set[Path], top: bool = False) -> list[str]:
    """Name the files of a folder, or the folder itself where it holds little else."""
    modules = set(folder.rglob("*.py"))
    used = modules & files
    if used and not top and len(used) > FOLDER_SHARE * len(modules):
        return [str(folder)]
    covered = []
    for path in sorted(folder.iterdir()) if used else ():
        if path in files:
            covered.append(str(path))
        elif path.is_dir():
            covered += _covered(path, files)
    return covered


def refuse_outdated_rows(stage: str) -> None:
    """Raise StageError where dvc.yaml lists other rows for a stage than params.yaml has."""
    stages, params = read_stages(), YamlFile(PARAMS).values
    patterns, listed = patterns_of(stages[stage]), body(stages[stage]).get("deps", ())
    rows = {path for path in listed if is_row(path, patterns)}
    if differing := rows.symmetric_difference(rows_read(stage, stages, params)):
        raise StageError(
            f"{stage}: the rows of params.yaml have changed since dvc.yaml listed them "
            f"({', '.join(sorted(differing)[:3])}); `safelm check` updates it: then run this again"
        )


def update_dependencies(*, with_code: bool, write: bool = True) -> list[str]:
    """Bring the derived dependencies of dvc.yaml up to date; return the stages that were not.

    Args:
        with_code: the code too, not the rows alone.
        write: False to look only.
    """
    text = DVC_YAML.read_text(encoding="utf-8")
    stages, params = read_stages(), YamlFile(PARAMS).values
    changed = {}
    for name, stage in stages.items():
        deps = body(stage).get("deps", [])
        derived = _derived(name, stages, params, with_code)
        if deps and derived != deps:
            changed[name] = derived
    if changed and write:
        write_synced(DVC_YAML, _replaced(text, changed).encode())
    return list(changed)


def _derived(name: str, stages: Stages, params: Mapping[str, Any], with_code: bool) -> list[str]:
    """Return the whole list of a stage: inputs, rows and code."""
    listed, patterns = body(stages[name]).get("deps", []), patterns_of(stages[name])
    inputs = [path for path in listed if not is_code(path) and not is_row(path, patterns)]
    modules = code_read(name) if with_code else [path for path in listed if is_code(path)]
    return [*inputs, *rows_read(name, stages, params), *modules]


def is_code(path: str) -> bool:
    """Return whether a dependency is first-party code."""
    return re.match(r"pipeline/|safelm/|specs/.*\.py$", path) is not None


def _replaced(text: str, lists: Mapping[str, list[str]]) -> str:
    """Replace the `deps` of some stages in the text of dvc.yaml; the rest stays as it is."""
    _, stages = _child(yaml.compose(text), "stages")
    for name, stage in reversed(stages.value):
        if name.value in lists:
            _, definition = _child(stage, "do") or (None, stage)
            key, old = _child(definition, "deps")
            start, end = key.end_mark.index, old.end_mark.index
            # The end of a list in lines is the beginning of what follows it.
            end -= len(text[start:end]) - len(text[start:end].rstrip())
            indent = " " * (key.start_mark.column + 2)
            text = f"{text[:start]}: {_flow(lists[name.value], indent)}{text[end:]}"
    return text


def _child(node: Any, key: str) -> Any:
    """Return a key of a mapping and its value, as nodes that know their place in the text."""
    return next((pair for pair in node.value if pair[0].value == key), None)


def _flow(paths: list[str], indent: str) -> str:
    """Write a list in brackets over several lines, the code on lines of its own."""
    lines = []
    for belongs in (lambda path: not is_code(path), is_code):
        quoted = [f'"{path}"' if "{" in path else path for path in paths if belongs(path)]
        lines += wrap(", ".join(quoted), WIDTH, **UNBROKEN)
        if quoted:
            lines[-1] += ","
    return "[" + f"\n{indent}".join(lines).removesuffix(",") + "]"


def read_stages() -> Stages:
    """Read the stages of dvc.yaml. Raises StageError where there is none."""
    try:
        return yaml.load(DVC_YAML.read_bytes(), Loader=yaml.CSafeLoader)["stages"]
    except FileNotFoundError:
        raise StageError(
            f"{Path.cwd()}: has no dvc.yaml; run this in the folder of the project"
        ) from None


def main() -> None:
    """Write the derived dependencies, or say which stages need it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="write nothing; exit with 1")
    check = parser.parse_args().check
    changed = update_dependencies(with_code=True, write=not check)
    if changed and check:
        raise SystemExit(
            f"dvc.yaml: dependencies of {', '.join(changed)} are out of date; run `make format`"
        )
    if changed:
        print(f"dvc.yaml: dependencies of {', '.join(changed)} updated")


if __name__ == "__main__":
    main()
