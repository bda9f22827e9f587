"""What a stage is to make: its tasks, and for each the key under which the store knows its shard.

A key is a digest of the shard's inputs, the declared values, the first-party code and the versions of the libraries
that shape the bytes. No path, no rank and no number of workers goes into it.
"""

import hashlib
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from safelm.blocks import Block, Reader, Task, Writer
from safelm.code import code_digest
from safelm.shards import Manifest
from safelm.store import Store

LIBRARIES = ("datatrove", "pyarrow", "numpy")


class StageError(RuntimeError):
    """A stage could not be built; the message says which shard and why."""


@dataclass(frozen=True)
class Recipe:
    """What all shards of a stage share: how they are made, but not of what."""

    stage: str
    values: str
    code: str
    libraries: tuple[tuple[str, str], ...]

    @classmethod
    def of(cls, stage: str, blocks: Sequence[Block]) -> "Recipe":
        """The recipe as this process would follow it. Branches of one stage (ingest/web, ingest/math) share it."""
        libraries = sorted({*LIBRARIES, *(library for block in blocks for library in block.libraries)})
        python = ("python", ".".join(map(str, sys.version_info[:2])))
        return cls(
            stage=stage.partition("/")[0],
            values=_digest([block.declared() for block in blocks]),
            code=code_digest(sorted({type(block).__module__ for block in blocks})),
            libraries=(*((library, version(library)) for library in libraries), python),
        )

    def key(self, task: Task) -> str:
        """The key of one shard."""
        parts = [self.stage, self.values, self.code, self.libraries, [item.sha256 for item in task.inputs], task.values]
        return _digest(parts)

    def refuse_difference(self, other: "Recipe") -> None:
        """Raise StageError where the process that follows `other` would make other bytes than the keys promise."""
        differing = [name for name in ("values", "code", "libraries") if getattr(self, name) != getattr(other, name)]
        if differing:
            raise StageError(
                f"the {' and '.join(differing)} of this stage are not those that it was planned with: they were "
                "changed during the run, or this machine has others; run the stage again"
            )


@dataclass(frozen=True)
class Plan:
    """The tasks of a stage with their keys. It is sent to every process that makes shards, here or on another machine.

    Paths in it are relative to `root`, the folder of the project.
    """

    stage: str
    blocks: tuple[Block, ...]
    recipe: Recipe
    tasks: tuple[Task, ...]
    keys: tuple[str, ...]
    store: Store
    root: Path

    @classmethod
    def of(cls, stage: str, blocks: Sequence[Block], store: Store) -> "Plan":
        """The plan of a stage whose first block is a reader and whose last is a writer."""
        reader, writer = blocks[0], blocks[-1]
        assert isinstance(reader, Reader) and isinstance(writer, Writer), (
            "a stage begins with a reader and ends with a writer"
        )
        recipe, tasks = Recipe.of(stage, blocks), tuple(reader.tasks())
        return cls(stage, tuple(blocks), recipe, tasks, tuple(map(recipe.key, tasks)), store, Path.cwd())

    def missing(self) -> list[int]:
        """The tasks whose shard is not in the store, by number."""
        return [rank for rank, key in enumerate(self.keys) if self.store.get(key) is None]

    def manifest(self) -> Manifest:
        """What the stage made. Raises StageError with names when a shard is not there."""
        records = [(task.name, self.store.get(key)) for task, key in zip(self.tasks, self.keys, strict=True)]
        lost = [name for name, record in records if record is None]
        if lost:
            raise StageError(
                f"{self.stage}: {len(lost)} of {len(records)} shards are missing after the run "
                f"({', '.join(lost[:8])}{', …' if len(lost) > 8 else ''}); run the stage again"
            )
        return Manifest(self.stage, tuple((name, record) for name, record in records if record))


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()
