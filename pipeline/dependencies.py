"""Derived dependencies of dvc.yaml: the rows and the code that each stage reads.

    python -m pipeline.dependencies           write them, as `make format` does
    python -m pipeline.dependencies --check   exit with 1 if they are out of date, as `make check`

The `deps` of a stage hold, in this order:

    inputs  written by hand
    rows    the paths that its `meta.reads` stands for (pipeline/rows.py)
    code    the modules that enter the keys of its outputs

`safelm build`, `safelm check` and `safelm add` also update the rows, so that they follow
params.yaml. A bare `dvc repro` cannot. There, a stage with outdated rows stops with a message.
"""

import argparse
import re
from collections.abc import Mapping
from pathlib import Path
from textwrap import wrap
from typing import Any

import yaml

from pipeline.rows import Block, Stages, body, is_row, patterns_of, rows_read
from safelm.builder.files import write_synced
from safelm.builder.fingerprint import Module, import_closure
from safelm.builder.locks import StageError
from specs.params import PARAMS
from specs.yaml_source import YamlFile

DVC_YAML = Path("dvc.yaml")
# Modules that a stage imports for itself and that decide no key: the build system and the grammars.
# Blocks and artifact functions import them too, and there they do count.
NEUTRAL = ("safelm.builder.", "specs.", "pipeline.arguments")
# Name a folder instead of its modules where a stage depends on more than this share of them. Lists
# stay short; the price is that an edit of another module there makes DVC run the stage, which then
# finds its key unchanged.
FOLDER_SHARE = 0.75
LINE_WIDTH = 86
UNBROKEN: Any = {"break_long_words": False, "break_on_hyphens": False}


def code_read(stage: str) -> list[str]:
    """List the files and folders of first-party code that a stage depends on.

    They are the stage's own modules in pipeline/, and the import closure of what those import. Keys
    of blocks and artifacts are made of the same closure (safelm/builder/fingerprint.py).
    """
    own = _own_modules(f"pipeline.{stage}")
    imported = set[str]().union(*(module.imports for module in own.values()))
    starts = {name for name in imported if not name.startswith((*NEUTRAL, "pipeline"))}
    files = {_path_of(name) for name in import_closure(starts)}
    stage_files = sorted(str(_path_of(name)) for name in own)
    grammars = sorted(str(path) for path in files if path.parts[0] == "specs")
    return [*stage_files, *_listed_below(Path("safelm"), files), *grammars]


def _own_modules(entry: str) -> dict[str, Module]:
    """Return the module of a stage and the modules of pipeline/ that it imports."""
    closure = import_closure([entry])
    own: dict[str, Module] = {}
    waiting = [entry]
    while waiting:
        name = waiting.pop()
        if name in own or name.startswith(NEUTRAL):
            continue
        # The closure has all first-party code; only modules of pipeline/ are followed here.
        own[name] = closure[name]
        waiting += [module for module in own[name].imports if module.startswith("pipeline.")]
    return own


def _path_of(module: str) -> Path:
    path = Path(*module.split("."))
    if path.is_dir():
        return path / "__init__.py"
    return path.with_suffix(".py")


def _listed_below(folder: Path, files: set[Path]) -> list[str]:
    """List those files that lie in a folder, with subfolders in place of their files."""
    listed = []
    for path in sorted(folder.iterdir()):
        if path in files:
            listed.append(str(path))
        elif path.is_dir():
            listed += _folder_or_files(path, files)
    return listed


def _folder_or_files(folder: Path, files: set[Path]) -> list[str]:
    """Name a folder where most of it is used, or else its files."""
    modules = set(folder.rglob("*.py"))
    used = modules & files
    if not used:
        return []
    if len(used) > FOLDER_SHARE * len(modules):
        return [str(folder)]
    return _listed_below(folder, files)


def refuse_outdated_rows(stage: str) -> None:
    """Raise StageError if dvc.yaml lists other rows for a stage than params.yaml has."""
    stages, params = read_stages(), YamlFile(PARAMS).values
    patterns = patterns_of(stages[stage])
    listed = {path for path in _deps_of(stages[stage]) if is_row(path, patterns)}
    differing = sorted(listed.symmetric_difference(rows_read(stage, stages, params)))
    if differing:
        raise StageError(
            f"{stage}: the rows of params.yaml have changed since dvc.yaml listed them "
            f"({', '.join(differing[:3])}); `safelm check` updates it; then run this again"
        )


def update_dependencies(*, with_code: bool, write: bool = True) -> list[str]:
    """Bring the derived dependencies of dvc.yaml up to date.

    Args:
        with_code: update the code too, not only the rows.
        write: False to look without writing.

    Returns the stages that were out of date.
    """
    text = DVC_YAML.read_text(encoding="utf-8")
    stages, params = read_stages(), YamlFile(PARAMS).values
    changed = {}
    for name, stage in stages.items():
        listed = _deps_of(stage)
        derived = _derived(name, stages, params, with_code)
        # A stage without `deps` has no list that could be replaced.
        if listed and derived != listed:
            changed[name] = derived
    if changed and write:
        write_synced(DVC_YAML, _replace_deps(text, changed).encode())
    return list(changed)


def _derived(name: str, stages: Stages, params: Block, with_code: bool) -> list[str]:
    """Return all dependencies of a stage: inputs, rows and code."""
    patterns = patterns_of(stages[name])
    inputs, code = [], []
    for path in _deps_of(stages[name]):
        if is_code(path):
            code.append(path)
        elif not is_row(path, patterns):
            inputs.append(path)
    if with_code:
        code = code_read(name)
    return [*inputs, *rows_read(name, stages, params), *code]


def _deps_of(stage: Block) -> list[str]:
    return body(stage).get("deps", [])


def is_code(path: str) -> bool:
    """Return whether a dependency is first-party code."""
    return re.match(r"pipeline/|safelm/|specs/.*\.py$", path) is not None


def _replace_deps(text: str, deps: Mapping[str, list[str]]) -> str:
    """Replace the `deps` of some stages in the text of dvc.yaml, and nothing else.

    To load and dump it would lose the comments and the layout.
    """
    _, stages = _child(yaml.compose(text), "stages")
    # From the last stage up: what is replaced moves no text above it.
    for name, stage in reversed(stages.value):
        if name.value not in deps:
            continue
        _, definition = _child(stage, "do") or (None, stage)
        key, old = _child(definition, "deps")
        start, end = key.end_mark.index, old.end_mark.index
        # PyYAML ends a list in lines where the next key begins.
        end = start + len(text[start:end].rstrip())
        indent = " " * (key.start_mark.column + 2)
        new = _in_brackets(deps[name.value], indent)
        text = f"{text[:start]}: {new}{text[end:]}"
    return text


def _child(node: Any, key: str) -> Any:
    """Return a key of a mapping and its value, as nodes that know their place in the text."""
    return next((pair for pair in node.value if pair[0].value == key), None)


def _in_brackets(paths: list[str], indent: str) -> str:
    """Write a list in brackets, wrapped; code begins on a line of its own."""
    # Quoted, because a bare brace would open a mapping.
    quoted = [f'"{path}"' if "{" in path else path for path in paths]
    data = [path for path in quoted if not is_code(path)]
    code = [path for path in quoted if is_code(path)]
    lines = []
    for group in (data, code):
        if group:
            lines += wrap(", ".join(group), LINE_WIDTH, **UNBROKEN)
            lines[-1] += ","
    return "[" + f"\n{indent}".join(lines).removesuffix(",") + "]"


def read_stages() -> Stages:
    """Read the stages of dvc.yaml. Raises StageError if the file is missing."""
    try:
        text = DVC_YAML.read_bytes()
    except FileNotFoundError:
        raise StageError(
            f"{Path.cwd()}: has no dvc.yaml; run this in the folder of the project"
        ) from None
    return yaml.load(text, Loader=yaml.CSafeLoader)["stages"]


def main() -> None:
    """Write the derived dependencies, or with --check name the stages that need it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit with 1 if out of date"
    )
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
