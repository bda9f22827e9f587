"""The digest of the first-party code behind a block, so that a shard's key changes when, and only when, its code does.

The closure of imports under `safelm` and `specs` is followed through the syntax trees, imports inside functions
included, and a module that is named in a string is one that is started. Comments, docstrings and formatting do not
count. Data files are not seen: they are declared.
"""

import ast
import hashlib
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
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
    roots = {name.partition(".")[0] for name in names}.difference(PACKAGES, sys.stdlib_module_names, [""])
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
    """A string that is the name of a module: `[sys.executable, "-m", "safelm.training.worker"]`."""
    value = node.value if isinstance(node, ast.Constant) else None
    return [value] if isinstance(value, str) and NAME.fullmatch(value) else []


def _forget_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
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
