"""Fingerprints of code, values and libraries: a shard's key changes when, and only when, they do.

First-party imports are followed through syntax trees. Imports inside functions count, and so does
a module named in a string, which is started as a process. Comments, docstrings and formatting do
not count. Data files are not followed: they are declared as values.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from importlib.util import resolve_name
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from safelm.builder.digest import change_stamp, content_digest, json_digest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("safelm", "specs", "pipeline")  # first-party: their code is followed
MODULE_NAME = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")
# Distributions that are imported under another name than they are installed by.
DISTRIBUTIONS = {
    "cchardet": "faust-cchardet",
    "ruamel": "ruamel.yaml",
    "sklearn": "scikit-learn",
    "splintr": "splintr-rs",
    "stdnum": "python-stdnum",
    "yaml": "PyYAML",
}
# Libraries that check input or show progress, and write no output byte.
NEUTRAL = ("loguru", "pydantic", "pydantic_core", "ruamel", "tqdm")


@dataclass(frozen=True)
class Module:
    """A first-party module: the digest of its code, and the names of what it imports."""

    digest: str
    imports: frozenset[str]
    libraries: frozenset[str]


@dataclass(frozen=True)
class Fingerprint:
    """The part of a key that all shards of a stage share: values, code, library versions."""

    stage: str
    values: str
    code: str
    libraries: tuple[tuple[str, str], ...]

    @classmethod
    def of(
        cls,
        stage: str,
        values: Any,
        modules: Iterable[str],
        extra_libraries: Iterable[str] = (),
    ) -> "Fingerprint":
        """Take the fingerprint of a stage as this process would run it.

        Branches of one stage (ingest/web, ingest/math) share it.

        Args:
            values: declared values; a Path counts by the content of that file or folder.
            modules: modules whose import closure counts, with the versions of its libraries.
            extra_libraries: libraries that are used without being imported.
        """
        modules = sorted(set(modules))
        names = {*libraries(modules), *extra_libraries}.difference(NEUTRAL)
        versions = [(name, _version(name)) for name in sorted(names)]
        python = f"{sys.version_info.major}.{sys.version_info.minor}"
        return cls(
            # `ingest` for both ingest/web and ingest/math: branches share their shards.
            stage=stage.partition("/")[0],
            values=json_digest(jsonable(values)),
            code=code_digest(modules),
            # The minor version alone, because a patch release changes no syntax.
            libraries=(*versions, ("python", python)),
        )

    def key(self, inputs: Sequence[str] = (), values: Sequence[Any] = ()) -> str:
        """Return the key of one shard: `inputs` are the sha256 of its files, `values` its own."""
        shared = [self.stage, self.values, self.code, self.libraries]
        return json_digest([*shared, inputs, jsonable(values)])

    def differences(self, other: "Fingerprint") -> list[str]:
        """Name the parts in which two fingerprints differ: values, code or libraries."""
        names = ("values", "code", "libraries")
        return [name for name in names if getattr(self, name) != getattr(other, name)]


def jsonable(value: Any) -> Any:
    """Convert a value to JSON types; a Path becomes the digest of its content."""
    if isinstance(value, Path):
        return content_digest(value)
    if isinstance(value, BaseModel):
        return jsonable(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        # A field that is not compared says how a value came about, not what it is.
        names = [item.name for item in fields(value) if item.compare]
        return {name: jsonable(getattr(value, name)) for name in names}
    if isinstance(value, tuple | list):
        return [jsonable(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): jsonable(item) for key, item in value.items()}
    return value


def code_digest(modules: Iterable[str]) -> str:
    """Return one digest for the import closure of some modules."""
    closure = import_closure(modules)
    digests = sorted((name, module.digest) for name, module in closure.items())
    return hashlib.sha256(repr(digests).encode()).hexdigest()


def libraries(modules: Iterable[str]) -> set[str]:
    """List the third-party packages that the import closure of some modules imports."""
    closure = import_closure(modules)
    return set().union(*(module.libraries for module in closure.values()))


def import_closure(modules: Iterable[str]) -> dict[str, Module]:
    """Collect every first-party module that the given ones need, themselves included."""
    closure: dict[str, Module] = {}
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = _first_party_file(name)
        if name in closure or path is None:
            continue
        closure[name] = _parse(name, path, change_stamp(path.stat()))
        waiting += closure[name].imports
        if package := name.rpartition(".")[0]:
            waiting.append(package)  # its __init__ runs too
    return closure


def _first_party_file(module: str) -> Path | None:
    names = module.split(".")
    if names[0] not in PACKAGES:
        return None
    path = ROOT.joinpath(*names)
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


@cache
def _parse(module: str, path: Path, stamp: tuple[int, ...]) -> Module:
    """Parse a module; `stamp` makes a changed file another entry of the cache."""
    tree = ast.parse(path.read_bytes())
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imported = set[str]()
    started = set[str]()
    for node in ast.walk(tree):
        imported.update(_imported_names(node, package))
        started.update(_started_modules(node))
    roots = {name.partition(".")[0] for name in imported}
    external = roots.difference(PACKAGES, sys.stdlib_module_names, [""])
    own = filter(_first_party_file, imported | started)
    return Module(_tree_digest(tree), frozenset(own), frozenset(external))


def _imported_names(node: ast.AST, package: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = resolve_name("." * node.level + (node.module or ""), package)
        yield base
        # A name imported from a package may be a module of it.
        yield from (f"{base}.{alias.name}" for alias in node.names)


def _started_modules(node: ast.AST) -> Iterator[str]:
    """Yield a string that names a module: `[sys.executable, "-m", "safelm.pretraining.worker"]`."""
    value = node.value if isinstance(node, ast.Constant) else None
    if isinstance(value, str) and MODULE_NAME.fullmatch(value):
        yield value


def _tree_digest(tree: ast.Module) -> str:
    documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
    for node in ast.walk(tree):
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            # A body that was a docstring alone does as much as `pass`.
            node.body = node.body[1:] or [ast.Pass()]
    # ast.dump omits positions, so that comments and formatting do not count.
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest()


def _version(library: str) -> str:
    try:
        return version(DISTRIBUTIONS.get(library, library))
    except PackageNotFoundError:
        return "none"  # an extra: its installation is a change of version
