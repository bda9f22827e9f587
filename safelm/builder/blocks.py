"""DataTrove blocks with declared values and counts of the documents that they take away."""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar, dataclass_transform

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from safelm.builder.fingerprint import jsonable

NOT_SELECTED = "not_selected"
Documents = Iterator[Document]


@dataclass(frozen=True)
class Input:
    """A file that a task reads, and the digest that it must have."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Task:
    """The unit of work: the inputs of one shard, and declared values of this task alone.

    `rows` is the number of rows that the inputs hold, if it is known before they are read.
    """

    name: str
    inputs: tuple[Input, ...]
    values: tuple[Any, ...] = ()
    rows: int | None = None


def unkeyed(**options: Any) -> Any:
    """Declare a field, as dataclasses.field does, that does not count in the shard's key."""
    return field(metadata={"key": False}, **options)


# Tells type checkers that subclasses are dataclasses, which __init_subclass__ makes them.
@dataclass_transform(kw_only_default=True, eq_default=False, field_specifiers=(field, unkeyed))
@dataclass(kw_only=True, eq=False, repr=False)
class Block(PipelineStep):
    """A DataTrove block whose keyword-only fields shape its output and go into the shard's key.

    A field that holds a Path counts by the content of that file or folder. A field that is
    `unkeyed` does not count. `libraries` names packages whose version shapes the bytes, beyond
    those that the code imports. Every subclass is a dataclass of its annotated fields, without a
    decorator of its own.
    """

    type: ClassVar[str] = "block"
    name: ClassVar[str] = "block"
    libraries: ClassVar[tuple[str, ...]] = ()

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # Here, so that no block forgets it: blocks are equal only to themselves.
        dataclass(cls, kw_only=True, eq=False, repr=False)

    def __post_init__(self) -> None:
        # DataTrove's constructor, which the generated __init__ of a dataclass does not call.
        super().__init__()
        self.dropped: Counter[str] = Counter()
        self.quarantined: list[dict[str, Any]] = []

    def begin(self, task: Task, folder: Path) -> None:
        """Prepare for a task, in the worker; the files of the task go into `folder`."""
        # Not `folder`: that is a declared value of blocks that read an earlier stage.
        self.task = task
        self.task_folder = folder

    def drop(self, reason: str, count: int = 1) -> None:
        """Count documents that are not passed on; `reason` is the filter's name in the ledger."""
        if count:
            self.dropped[reason] += count
            self.stat_update(reason, value=count)

    def quarantine(
        self,
        reason: str,
        *,
        file: str,
        offset: int,
        content: bytes,
    ) -> None:
        """Record a row that cannot be used.

        Its text is not kept: file, offset and digest are enough to find it again.
        """
        row = {
            "file": file,
            "offset": offset,
            "reason": reason,
            "sha256": hashlib.sha256(content).hexdigest(),
            "bytes": len(content),
        }
        self.quarantined.append(row)
        self.stat_update(f"quarantined {reason}")

    def declared(self) -> list[Any]:
        """Return the class and its declared values as JSON: the block's part of a shard's key."""
        names = [item.name for item in fields(self) if item.metadata.get("key", True)]
        values = {name: jsonable(getattr(self, name)) for name in names}
        return [f"{type(self).__module__}.{type(self).__qualname__}", values]

    def process(self, document: Document) -> Documents:
        """Yield a document, something made of it, or nothing (after `drop`)."""
        yield document

    def run(
        self,
        data: Iterable[Document] | None,
        rank: int = 0,
        world_size: int = 1,
    ) -> Documents:
        """Process every document, as DataTrove calls it."""
        for document in data or ():
            yield from self.process(document)


class Reader(Block):
    """The first block of a stage: it lists the tasks and reads the documents of each."""

    type = "reader"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rows = 0

    @abstractmethod
    def tasks(self) -> list[Task]:
        """List the tasks of the stage, in an order that does not depend on the machine."""

    @abstractmethod
    def read(self, task: Task) -> Documents:
        """Yield the documents of a task; drop or quarantine every other row with a reason."""

    def run(
        self,
        data: Iterable[Document] | None,
        rank: int = 0,
        world_size: int = 1,
    ) -> Documents:
        """Yield the documents of the task that the executor gave to this worker."""
        yield from data or ()
        for document in self.read(self.task):
            self.rows += 1
            yield document

    @property
    def rows_in(self) -> int:
        """Every row of the source: read, dropped and quarantined."""
        return self.rows + sum(self.dropped.values()) + len(self.quarantined)


class Writer(Block):
    """The last block of a stage: it writes the files of a task and counts their rows."""

    type = "writer"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rows = 0
        self.files: dict[str, int] = {}

    @abstractmethod
    def write(self, documents: Documents, folder: Path) -> None:
        """Write every document; set `self.files[suffix]` to the rows of each file in `folder`."""

    def run(
        self,
        data: Iterable[Document] | None,
        rank: int = 0,
        world_size: int = 1,
    ) -> Documents:
        """Write the documents, and count them."""
        self.write(self._counted(data or ()), self.task_folder)
        # Makes this a generator, as DataTrove expects of every block.
        yield from ()

    def _counted(self, data: Iterable[Document]) -> Documents:
        for document in data:
            self.rows += 1
            yield document
