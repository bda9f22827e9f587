"""The base of every DataTrove block here: declared values, and a ledger of the documents that a
block takes away.
"""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, ClassVar

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from safelm.builder.fingerprint import jsonable

NOT_SELECTED = "not_selected"


@dataclass(frozen=True)
class Input:
    """A file that a task reads, and the digest it must have."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Task:
    """The unit of work: what one shard is made from. `values` are declared values of this task
    alone.
    """

    name: str
    inputs: tuple[Input, ...]
    values: tuple[Any, ...] = ()


@dataclass(kw_only=True, eq=False, repr=False)
class Block(PipelineStep):
    """A DataTrove block whose keyword-only fields are the values that shape its output; they go
    into the shard's key.

    A field that holds a Path counts by the content of that file or folder. `libraries` names the
    packages, beyond those every stage uses, whose version shapes the bytes."""

    type: ClassVar[str] = "block"
    name: ClassVar[str] = "block"
    libraries: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__init__()
        self.dropped: Counter[str] = Counter()
        self.quarantined: list[dict[str, Any]] = []

    def begin(self, task: Task, attempt: Path) -> None:
        """Called in the worker before a task: which one, and the folder that its files go to."""
        self.task, self.folder = task, attempt

    def drop(self, reason: str, count: int = 1) -> None:
        """Count documents that this block does not pass on; `reason` is the filter's name in the
        ledger.
        """
        if count:
            self.dropped[reason] += count
            self.stat_update(reason, value=count)

    def quarantine(self, reason: str, *, file: str, offset: int, content: bytes) -> None:
        """Record a row that cannot be used. Its text is not kept: file, offset and digest find it
        again.
        """
        digest = hashlib.sha256(content).hexdigest()
        self.quarantined.append(
            {
                "file": file,
                "offset": offset,
                "reason": reason,
                "sha256": digest,
                "bytes": len(content),
            }
        )
        self.stat_update(f"quarantined {reason}")

    def declared(self) -> list[Any]:
        """The class and its declared values, as JSON: the block's part of a shard's key."""
        values = {
            item.name: jsonable(getattr(self, item.name))
            for item in fields(self)
            if item.metadata.get("key", True)
        }
        return [f"{type(self).__module__}.{type(self).__qualname__}", values]

    def process(self, document: Document) -> Iterator[Document]:
        """The rule, met by one document: yield it, something made of it, or nothing (after `drop`)."""
        yield document

    def run(
        self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """DataTrove's entry point."""
        for document in data or ():
            yield from self.process(document)


@dataclass(kw_only=True, eq=False, repr=False)
class Reader(Block):
    """The first block of a stage. It says which tasks there are and reads the documents of one."""

    type: ClassVar[str] = "reader"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rows = 0

    @abstractmethod
    def tasks(self) -> list[Task]:
        """The tasks of the stage, in an order that does not depend on the machine."""

    @abstractmethod
    def read(self, task: Task) -> Iterator[Document]:
        """The documents of one task; what cannot be used is dropped by name or quarantined by
        reason.
        """

    def run(
        self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """Yield the documents of the task that the executor gave to this worker."""
        yield from data or ()
        for document in self.read(self.task):
            self.rows += 1
            yield document

    @property
    def rows_in(self) -> int:
        """Every row of the source: read, dropped and quarantined."""
        return self.rows + sum(self.dropped.values()) + len(self.quarantined)


@dataclass(kw_only=True, eq=False, repr=False)
class Writer(Block):
    """The last block of a stage. It writes the files of one task into the attempt's folder and
    counts their rows.
    """

    type: ClassVar[str] = "writer"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rows = 0
        self.files: dict[str, int] = {}

    @abstractmethod
    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """Write every document; set `self.files[suffix]` to the rows of each file `attempt /
        suffix`.
        """

    def run(
        self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1
    ) -> Iterator[Document]:
        """Write, counting what comes."""
        self.write(self._counted(data or ()), self.folder)
        yield from ()

    def _counted(self, data: Iterable[Document]) -> Iterator[Document]:
        for document in data:
            self.rows += 1
            yield document
