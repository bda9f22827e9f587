"""How a shard or an artifact is made, as digests: the declared values, the code, and the libraries that shape bytes."""

import hashlib
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from safelm.code import code_digest, libraries
from safelm.digest import content_digest

DISTRIBUTIONS = {  # packages that are imported under another name than they are installed
    "cchardet": "faust-cchardet",
    "ruamel": "ruamel.yaml",
    "sklearn": "scikit-learn",
    "yaml": "PyYAML",
}
NEUTRAL = ("loguru", "pydantic", "pydantic_core", "ruamel", "tqdm")  # they check and show, and write nothing


@dataclass(frozen=True)
class Recipe:
    """What all shards of a stage share: how they are made, but not of what."""

    stage: str
    values: str
    code: str
    libraries: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, stage: str, values: Any, modules: Iterable[str], also: Iterable[str] = ()) -> "Recipe":
        """The recipe as this process would follow it. Branches of one stage (ingest/web, ingest/math) share it.

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
        """The key of what is made of these inputs, given by their sha256, with these values of its own."""
        return digest([self.stage, self.values, self.code, self.libraries, inputs, plain(values)])

    def differences(self, other: "Recipe") -> list[str]:
        """What the process that follows `other` would do differently."""
        return [name for name in ("values", "code", "libraries") if getattr(self, name) != getattr(other, name)]


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
