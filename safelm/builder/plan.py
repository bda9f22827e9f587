"""The plan of a stage: its tasks, and for each the key of its shard in the store.

A key is a digest of the shard's inputs, the declared values, the first-party code and the versions
of the libraries that shape the bytes. No path, rank or number of workers goes into it.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from safelm.builder.blocks import Block, Reader, Task, Writer
from safelm.builder.fingerprint import Fingerprint, code_digest
from safelm.builder.locks import StageError
from safelm.builder.manifest import DamagedShard, Manifest, ManifestEntry
from safelm.builder.store import Store

NAMED = 8  # missing shards that an error names


def stage_fingerprint(stage: str, blocks: Sequence[Block]) -> Fingerprint:
    """Take the fingerprint that the shards of a stage share."""
    values = [block.declared() for block in blocks]
    libraries = chain.from_iterable(block.libraries for block in blocks)
    return Fingerprint.of(stage, values, _modules(blocks), libraries)


def _modules(blocks: Iterable[Block]) -> set[str]:
    return {type(block).__module__ for block in blocks}


def task_key(fingerprint: Fingerprint, task: Task) -> str:
    """Return the key of a task's shard."""
    return fingerprint.key([item.sha256 for item in task.inputs], task.values)


@dataclass(frozen=True)
class Plan:
    """The tasks of a stage with their keys, sent to every process that makes shards.

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
        """Plan a stage whose first block is a reader and whose last is a writer."""
        reader = blocks[0]
        writer = blocks[-1]
        assert isinstance(reader, Reader), "the first block of a stage is a reader"
        assert isinstance(writer, Writer), "the last block of a stage is a writer"
        fingerprint = stage_fingerprint(stage, blocks)
        tasks = tuple(reader.tasks())
        keys = tuple(task_key(fingerprint, task) for task in tasks)
        return cls(
            stage,
            tuple(blocks),
            fingerprint,
            tasks,
            keys,
            store,
            Path.cwd(),
        )

    def refuse_difference(self) -> None:
        """Check that this process would make the bytes that the keys promise.

        Raises:
            StageError: its code, values or libraries are not those of the plan.
        """
        differing = self.fingerprint.differences(stage_fingerprint(self.stage, self.blocks))
        if differing:
            raise StageError(
                f"the {' and '.join(differing)} of this stage differ from its plan: they were "
                "changed during the run, or this machine has others; run the stage again"
            )

    def code_is_unchanged(self) -> bool:
        """Return whether the code is still that of the keys; modules are imported at any time."""
        return code_digest(_modules(self.blocks)) == self.fingerprint.code

    def entry(self, rank: int) -> ManifestEntry | None:
        """Return the entry of a task's shard; None if it has to be made."""
        try:
            return self._load(rank)
        except (OSError, DamagedShard):
            return None

    def _load(self, rank: int) -> ManifestEntry:
        entry = self.store.load(self.keys[rank])
        rows = self.tasks[rank].rows
        if rows not in (None, entry.ledger.rows_in):
            raise DamagedShard(f"was made of {entry.ledger.rows_in:,} rows, its input has {rows:,}")
        return entry

    def missing(self) -> list[int]:
        """Return the ranks of the tasks whose shard is not in the store."""
        return [rank for rank in range(len(self.tasks)) if self.entry(rank) is None]

    def problems(self) -> Iterator[str]:
        """Say of which shards the store has an entry or an object that cannot be used."""
        for rank, task in enumerate(self.tasks):
            try:
                self._load(rank)
            except OSError:
                continue
            except DamagedShard as error:
                yield f"{self.stage}: shard {task.name}: {error}; it is made again"

    def manifest(self) -> Manifest:
        """Return the manifest of the finished stage.

        Raises:
            StageError: some shards are missing; the message names them.
        """
        made = []
        lost = []
        for rank, task in enumerate(self.tasks):
            if entry := self.entry(rank):
                made.append((task.name, entry))
            else:
                lost.append(task.name)
        if lost:
            more = ", …" if len(lost) > NAMED else ""
            raise StageError(
                f"{self.stage}: {len(lost)} of {len(self.tasks)} shards are missing after the run "
                f"({', '.join(lost[:NAMED])}{more}); run the stage again"
            )
        return Manifest(self.stage, tuple(made))
