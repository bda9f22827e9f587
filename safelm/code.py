"""The digest of the first-party code behind a block, so that a shard's key changes when, and only when, its code does.

The closure of imports under `safelm` and `specs` is followed through the syntax trees, imports inside functions
included. Comments, docstrings and formatting do not count. Not seen: importlib and data files; blocks declare those.
"""

import ast
import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("safelm", "specs")


@cache
def _parsed(module: str) -> tuple[str, frozenset[str]]:
    """(digest of the module's tree without docstrings, first-party modules it imports)."""
    path = _file(module)
    assert path is not None, module
    tree = ast.parse(path.read_bytes())
    package = module if path.name == "__init__.py" else module.rpartition(".")[0]
    imports = {name for node in ast.walk(tree) for name in _imported(node, package) if _is_ours(name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            _forget_docstring(node)
    return hashlib.sha256(ast.dump(tree).encode()).hexdigest(), frozenset(imports)


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


def _forget_docstring(node: ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef) -> None:
    first = node.body[0] if node.body else None
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant) and isinstance(first.value.value, str):
        node.body = node.body[1:] or [ast.Pass()]


def closure(modules: Iterable[str]) -> dict[str, str]:
    """Every first-party module that the given ones need, with its digest."""
    done: dict[str, str] = {}
    waiting = list(modules)
    while waiting:
        module = waiting.pop()
        if module in done or not _is_ours(module):
            continue
        done[module], imports = _parsed(module)
        waiting += imports
        parent = module.rpartition(".")[0]
        if parent:
            waiting.append(parent)  # its __init__ runs too
    return done


def code_digest(modules: Iterable[str]) -> str:
    """One digest for the closure of some modules."""
    return hashlib.sha256(repr(sorted(closure(modules).items())).encode()).hexdigest()
