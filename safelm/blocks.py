"""The base of every DataTrove block here: declared values, and a ledger of the documents that a block takes away."""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, ClassVar

from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from safelm.digest import content_digest
from safelm.shards import Shard, schema, shards, write_table
from specs.document import DOCUMENT

NOT_SELECTED = "not_selected"


@dataclass(frozen=True)
class Input:
    """A file that a task reads, and the digest it must have."""

    path: Path
    sha256: str


@dataclass(frozen=True)
class Task:
    """The unit of work: what one shard is made from. `values` are declared values of this task alone."""

    name: str
    inputs: tuple[Input, ...]
    values: tuple[Any, ...] = ()


@dataclass(kw_only=True, eq=False, repr=False)
class Block(PipelineStep):
    """A DataTrove block whose keyword-only fields are the values that shape its output; they go into the shard's key.

    A field that holds a Path counts by the content of that file or folder. `libraries` names the packages, beyond those
    every stage uses, whose version shapes the bytes.
    """

    type: ClassVar[str] = "block"
    name: ClassVar[str] = "block"
    libraries: ClassVar[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        super().__init__()
        self.dropped: Counter[str] = Counter()
        self.quarantined: list[dict[str, Any]] = []

    def begin(self, task: Task, attempt: Path) -> None:
        """Called in the worker before a task: which one, and the folder that its files go to."""
        self.task, self.attempt = task, attempt

    def drop(self, reason: str) -> None:
        """Count a document that this block does not pass on; `reason` is the filter's name in the ledger."""
        self.dropped[reason] += 1
        self.stat_update(reason)

    def quarantine(self, reason: str, *, file: str, offset: int, content: bytes) -> None:
        """Record a row that cannot be used. Its text is not kept: file, offset and digest find it again."""
        digest = hashlib.sha256(content).hexdigest()
        self.quarantined.append(
            {"file": file, "offset": offset, "reason": reason, "sha256": digest, "bytes": len(content)}
        )
        self.stat_update(f"quarantined {reason}")

    def declared(self) -> list[Any]:
        """The class and its declared values, as JSON: the block's part of a shard's key."""
        values = {
            item.name: _plain(getattr(self, item.name)) for item in fields(self) if item.metadata.get("key", True)
        }
        return [f"{type(self).__module__}.{type(self).__qualname__}", values]

    def each(self, document: Document) -> Iterator[Document]:
        """The rule, met by one document: yield it, something made of it, or nothing (after `drop`)."""
        yield document

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """DataTrove's entry point."""
        for document in data or ():
            yield from self.each(document)


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return content_digest(value)
    if isinstance(value, tuple | list):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    return value


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
        """The documents of one task; what cannot be used is dropped by name or quarantined by reason."""

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
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
    """The last block of a stage. It writes the files of one task into the attempt's folder and counts their rows."""

    type: ClassVar[str] = "writer"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.rows = 0
        self.files: dict[str, int] = {}

    @abstractmethod
    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """Write every document; set `self.files[suffix]` to the rows of each file `attempt / suffix`."""

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """Write, counting what comes."""
        self.write(self._counted(data or ()), self.attempt)
        yield from ()

    def _counted(self, data: Iterable[Document]) -> Iterator[Document]:
        for document in data:
            self.rows += 1
            yield document


@dataclass(kw_only=True, eq=False, repr=False)
class ReadShards(Reader):
    """Read the shards of an earlier stage, one task each; with `scores`, only documents whose score is in `select`.

    The metadata of a selected document has its `score` and, as `score_hazard`, the hazard the scorers named.
    """

    name: ClassVar[str] = "shards"
    folder: Path = field(metadata={"key": False})  # its files are inputs of the tasks
    scores: Path | None = field(default=None, metadata={"key": False})
    select: tuple[int, ...] | None = None

    def tasks(self) -> list[Task]:
        """One per shard, with the score file of the same name beside it."""
        sources = shards(self.folder)
        if self.scores is None:
            return [Task(shard.name, (_input(shard),)) for shard in sources]
        beside = {shard.name: shard for shard in shards(self.scores)}
        missing = [shard.name for shard in sources if shard.name not in beside]
        if missing:
            raise FileNotFoundError(
                f"{self.scores}: expected a score file for every shard, none for {missing[0]}; run `dvc repro score`"
            )
        return [Task(shard.name, (_input(shard), _input(beside[shard.name]))) for shard in sources]

    def read(self, task: Task) -> Iterator[Document]:
        """Every selected document of one shard."""
        text, *side = [Shard(item.path, 0, item.sha256).table() for item in task.inputs]
        scores = side[0].to_pylist() if side else [None] * text.num_rows
        for row, score in zip(text.to_pylist(), scores, strict=True):
            document = from_row(row)
            if score is None:
                yield document
            elif score["id"] != document.id:
                raise ValueError(
                    f"{task.inputs[1].path}: expected the score of {document.id}, got that of {score['id']}; "
                    "run `dvc repro score`"
                )
            elif self.select is None or score["score"] in self.select:
                document.metadata |= {"score": score["score"], "score_hazard": score["hazard"]}
                yield document
            else:
                self.drop(NOT_SELECTED)


def _input(shard: Shard) -> Input:
    return Input(shard.path, shard.sha256)


def from_row(row: dict[str, Any]) -> Document:
    """A DataTrove document from a row of a document shard; columns that are null are left out of its metadata."""
    rest = {name: value for name, value in row.items() if value is not None and name not in ("id", "text")}
    return Document(text=row["text"], id=row["id"], metadata=rest)


def to_row(document: Document) -> dict[str, Any]:
    """A row of a document shard. Only columns of specs/document.py are kept."""
    return {**{name: document.metadata.get(name) for name in DOCUMENT}, "id": document.id, "text": document.text}


@dataclass(kw_only=True, eq=False, repr=False)
class WriteDocuments(Writer):
    """Documents to Parquet, one file a task, or several of at most `rows` documents."""

    name: ClassVar[str] = "documents"
    rows_per_file: int | None = None

    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """Files `.parquet`, or `-00000.parquet`, `-00001.parquet`, …"""
        rows: list[dict[str, Any]] = []
        for document in documents:
            rows.append(to_row(document))
            if self.rows_per_file and len(rows) == self.rows_per_file:
                self._flush(rows, attempt)
        if rows or not self.files:
            self._flush(rows, attempt)

    def _flush(self, rows: list[dict[str, Any]], attempt: Path) -> None:
        suffix = f"-{len(self.files):05d}.parquet" if self.rows_per_file else ".parquet"
        write_table(rows, DOCUMENT, attempt / suffix)
        self.files[suffix] = len(rows)
        rows.clear()


@dataclass(kw_only=True, eq=False, repr=False)
class WriteColumns(Writer):
    """A narrow table beside a shard, row for row: the values of `columns` in each document's metadata."""

    name: ClassVar[str] = "columns"
    columns: dict[str, str]

    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """One file, `.parquet`."""
        rows = [{**document.metadata, "id": document.id, "text": document.text} for document in documents]
        write_table(rows, self.columns, attempt / ".parquet")
        self.files[".parquet"] = len(rows)


__all__ = [
    "Block",
    "Input",
    "ReadShards",
    "Reader",
    "Task",
    "WriteColumns",
    "WriteDocuments",
    "Writer",
    "content_digest",
    "from_row",
    "schema",
    "to_row",
]
