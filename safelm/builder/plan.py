"""What a stage is to make: its tasks, and for each the key under which the store knows its shard.

A key is a digest of the shard's inputs, the declared values, the first-party code and the versions
of the libraries that shape the bytes. No path, no rank and no number of workers goes into it."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from safelm.builder.blocks import Block, Reader, Task, Writer
from safelm.builder.fingerprint import Fingerprint, code_digest
from safelm.builder.manifest import Manifest
from safelm.builder.stage import StageError
from safelm.builder.store import Store


def stage_fingerprint(stage: str, blocks: Sequence[Block]) -> Fingerprint:
    """How the shards of a stage are made."""
    values = [block.declared() for block in blocks]
    modules = {type(block).__module__ for block in blocks}
    return Fingerprint.of(
        stage, values, modules, (library for block in blocks for library in block.libraries)
    )


def shard_keys(stage: str, blocks: Sequence[Block], tasks: Iterable[Task]) -> list[str]:
    """The keys of tasks of a stage."""
    made = stage_fingerprint(stage, blocks)
    return [made.key([item.sha256 for item in task.inputs], task.values) for task in tasks]


@dataclass(frozen=True)
class Plan:
    """The tasks of a stage with their keys. It is sent to every process that makes shards, here or
    on another machine.

    Paths in it are relative to `root`, the folder of the project.
    """

    stage: str
    blocks: tuple[Block, ...]
    fingerprint: Fingerprint
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
        made, tasks = stage_fingerprint(stage, blocks), tuple(reader.tasks())
        return cls(
            stage,
            tuple(blocks),
            made,
            tasks,
            tuple(shard_keys(stage, blocks, tasks)),
            store,
            Path.cwd(),
        )

    def refuse_difference(self) -> None:
        """Raise StageError where this process would make other bytes than the keys promise."""
        differing = self.fingerprint.differences(stage_fingerprint(self.stage, self.blocks))
        if differing:
            raise StageError(
                f"the {' and '.join(differing)} of this stage are not those that it was planned with: they were "
                "changed during the run, or this machine has others; run the stage again"
            )

    def is_followed(self) -> bool:
        """Whether the code is still that of the keys: a module may be imported at any time during
        the run.
        """
        return (
            code_digest({type(block).__module__ for block in self.blocks}) == self.fingerprint.code
        )

    def missing(self) -> list[int]:
        """The tasks whose shard is not in the store, by number."""
        return [rank for rank, key in enumerate(self.keys) if self.store.get(key) is None]

    def manifest(self) -> Manifest:
        """What the stage made. Raises StageError with names when a shard is not there."""
        records = [
            (task.name, self.store.get(key))
            for task, key in zip(self.tasks, self.keys, strict=True)
        ]
        lost = [name for name, record in records if record is None]
        if lost:
            raise StageError(
                f"{self.stage}: {len(lost)} of {len(records)} shards are missing after the run "
                f"({', '.join(lost[:8])}{', …' if len(lost) > 8 else ''}); run the stage again"
            )
        return Manifest(self.stage, tuple((name, record) for name, record in records if record))
