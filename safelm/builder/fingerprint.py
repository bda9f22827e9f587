"""The digest of the first-party code behind a block, so that a shard's key changes when, and only
when, its code does.

The closure of imports under `safelm` and `specs` is followed through the syntax trees, imports
inside functions included, and a module that is named in a string is one that is started. Comments,
docstrings and formatting do not count. Data files are not seen: they are declared."""

import ast
import hashlib
import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from safelm.builder.digest import content_digest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("safelm", "specs", "pipeline")
NAME = re.compile(rf"(?:{'|'.join(PACKAGES)})(?:\.\w+)+")


@dataclass(frozen=True)
class Module:
    """A module of ours: the digest of its tree without docstrings, and what it imports."""

    digest: str
    ours: frozenset[str]
    libraries: frozenset[str]


def _parsed(module: str) -> Module:
    path = _file(module)
    assert path is not None, module
    state = path.stat()
    return _read(module, path, (state.st_ino, state.st_size, state.st_mtime_ns))


@cache
def _read(module: str, path: Path, stamp: tuple[int, ...]) -> Module:
    """A module from its file, parsed again only when the file is another one than before."""
    tree = ast.parse(path.read_bytes())
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    names = {name for node in ast.walk(tree) for name in _imported(node, package)}
    roots = {name.partition(".")[0] for name in names}.difference(
        PACKAGES, sys.stdlib_module_names, [""]
    )
    started = {name for node in ast.walk(tree) for name in _started(node)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _forget_docstring(node)
    digest = hashlib.sha256(ast.dump(tree).encode()).hexdigest()
    return Module(digest, frozenset(filter(_is_ours, {*names, *started})), frozenset(roots))


def _file(module: str) -> Path | None:
    path = ROOT.joinpath(*module.split("."))
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((candidate for candidate in candidates if candidate.is_file()), None)


def _is_ours(module: str) -> bool:
    return module.split(".")[0] in PACKAGES and _file(module) is not None


def _imported(node: ast.AST, package: str) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if not isinstance(node, ast.ImportFrom):
        return []
    base = node.module or ""
    if node.level:
        parents = package.split(".")[: len(package.split(".")) - node.level + 1]
        base = ".".join([*parents, base] if base else parents)
    return [base, *(f"{base}.{alias.name}" for alias in node.names)]


def _started(node: ast.AST) -> list[str]:
    """A string that is the name of a module: `[sys.executable, "-m", "safelm.pretraining.worker"]`."""
    value = node.value if isinstance(node, ast.Constant) else None
    return [value] if isinstance(value, str) and NAME.fullmatch(value) else []


def _forget_docstring(
    node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef,
) -> None:
    first = node.body[0] if node.body else None
    if (
        isinstance(first, ast.Expr)
        and isinstance(first.value, ast.Constant)
        and isinstance(first.value.value, str)
    ):
        node.body = node.body[1:] or [ast.Pass()]


def closure(modules: Iterable[str]) -> dict[str, Module]:
    """Every first-party module that the given ones need."""
    done: dict[str, Module] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in done or not _is_ours(module):
            continue
        done[module] = _parsed(module)
        waiting += done[module].ours
        parent = module.rpartition(".")[0]
        if parent:
            waiting.append(parent)  # its __init__ runs too
    return done


def code_digest(modules: Iterable[str]) -> str:
    """One digest for the closure of some modules."""
    found = sorted((name, module.digest) for name, module in closure(modules).items())
    return hashlib.sha256(repr(found).encode()).hexdigest()


def libraries(modules: Iterable[str]) -> set[str]:
    """The packages of others that the closure of some modules imports, as they are imported."""
    return {library for module in closure(modules).values() for library in module.libraries}


DISTRIBUTIONS = {  # packages that are imported under another name than they are installed
    "cchardet": "faust-cchardet",
    "ruamel": "ruamel.yaml",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}


NEUTRAL = (
    "loguru",
    "pydantic",
    "pydantic_core",
    "ruamel",
    "tqdm",
)  # they check and show, and write nothing


@dataclass(frozen=True)
class Recipe:
    """What all shards of a stage share: how they are made, but not of what."""

    stage: str
    values: str
    code: str
    libraries: tuple[tuple[str, str], ...]

    @classmethod
    def of(
        cls, stage: str, values: Any, modules: Iterable[str], also: Iterable[str] = ()
    ) -> "Recipe":
        """The recipe as this process would follow it. Branches of one stage (ingest/web,
        ingest/math) share it.

        Args:
            values: what is declared; a Path counts by the content of that file or folder.
            modules: where the code starts. Every library that its closure imports counts by its version.
            also: libraries that are used without being imported.
        """
        modules = sorted(set(modules))
        names = sorted({*libraries(modules), *also}.difference(NEUTRAL))
        python = ("python", ".".join(map(str, sys.version_info[:2])))
        return cls(
            stage=stage.partition("/")[0],
            values=digest(plain(values)),
            code=code_digest(modules),
            libraries=(*((name, _version(name)) for name in names), python),
        )

    def key(self, inputs: Sequence[str] = (), values: Sequence[Any] = ()) -> str:
        """The key of what is made of these inputs, given by their sha256, with these values of its
        own.
        """
        return digest([self.stage, self.values, self.code, self.libraries, inputs, plain(values)])

    def differences(self, other: "Recipe") -> list[str]:
        """What the process that follows `other` would do differently."""
        return [
            name
            for name in ("values", "code", "libraries")
            if getattr(self, name) != getattr(other, name)
        ]


def plain(value: Any) -> Any:
    """A value as JSON can say it. A Path is the digest of its content: where it is does not matter."""
    if isinstance(value, Path):
        return content_digest(value)
    if isinstance(value, BaseModel):
        return plain(value.model_dump())
    if is_dataclass(value) and not isinstance(value, type):
        return {item.name: plain(getattr(value, item.name)) for item in fields(value)}
    if isinstance(value, tuple | list):
        return [plain(item) for item in value]
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    return value


def digest(values: Any) -> str:
    """sha256 of what JSON can say."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def _version(library: str) -> str:
    try:
        return version(DISTRIBUTIONS.get(library, library))
    except PackageNotFoundError:
        return "none"
