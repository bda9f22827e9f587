"""The base of every DataTrove block here: declared values, and a ledger of the documents that a block takes away."""

import hashlib
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from safelm.batches import Size, batches
from safelm.recipe import plain
from safelm.shards import Shard, schema, shards, write_parts
from specs.document import DOCUMENT, GUARDED

NOT_SELECTED = "not_selected"
CHILD_SAFETY = "child_safety"
GROUP = Size(2048, 16 << 20)  # a row group, at most


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

    def drop(self, reason: str, count: int = 1) -> None:
        """Count documents that this block does not pass on; `reason` is the filter's name in the ledger."""
        if count:
            self.dropped[reason] += count
            self.stat_update(reason, value=count)

    def quarantine(self, reason: str, *, file: str, offset: int, content: bytes) -> None:
        """Record a row that cannot be used. Its text is not kept: file, offset and digest find it again."""
        digest = hashlib.sha256(content).hexdigest()
        self.quarantined.append(
            {"file": file, "offset": offset, "reason": reason, "sha256": digest, "bytes": len(content)}
        )
        self.stat_update(f"quarantined {reason}")

    def declared(self) -> list[Any]:
        """The class and its declared values, as JSON: the block's part of a shard's key."""
        values = {item.name: plain(getattr(self, item.name)) for item in fields(self) if item.metadata.get("key", True)}
        return [f"{type(self).__module__}.{type(self).__qualname__}", values]

    def each(self, document: Document) -> Iterator[Document]:
        """The rule, met by one document: yield it, something made of it, or nothing (after `drop`)."""
        yield document

    def run(self, data: Iterable[Document] | None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        """DataTrove's entry point."""
        for document in data or ():
            yield from self.each(document)


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

    The metadata of a selected document has its `score` and, as `score_hazard`, the hazard the scorers named. One of a
    guarded hazard is dropped as child_safety, as at ingest: with scores is how writers and training read raw pages.
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
        text, *side = [Shard(item.path, 0, item.sha256) for item in task.inputs]
        scores = side[0].table(("id", "score", "hazard")) if side else None
        first = 0
        for part in text.parts():
            yield from documents_of(part if scores is None else self._selected(part, scores.slice(first), task))
            first += part.num_rows
        if scores is not None and scores.num_rows != first:
            raise ValueError(
                f"{task.inputs[1].path}: expected {first} scores (got {scores.num_rows}); run `dvc repro score`"
            )

    def _selected(self, part: pa.Table, scores: pa.Table, task: Task) -> pa.Table:
        """The rows whose score is selected, with their scores. Raises ValueError for those of other documents."""
        scores = scores.slice(0, part.num_rows)
        ours, theirs = part["id"].to_pylist(), scores["id"].to_pylist()
        if ours != theirs:
            expected, got = next(pair for pair in zip_longest(ours, theirs) if pair[0] != pair[1])
            raise ValueError(
                f"{task.inputs[1].path}: expected the score of {expected}, got that of {got}; run `dvc repro score`"
            )
        part = part.append_column("score", scores["score"]).append_column("score_hazard", scores["hazard"])
        is_guarded = pc.is_in(part["score_hazard"], pa.array(GUARDED))
        self.drop(CHILD_SAFETY, pc.sum(is_guarded).as_py() or 0)
        part = part.filter(pc.invert(is_guarded))
        if self.select is None:
            return part
        is_selected = pc.is_in(part["score"], pa.array(self.select, part["score"].type))
        chosen = part.filter(is_selected)
        self.drop(NOT_SELECTED, part.num_rows - chosen.num_rows)
        return chosen


def _input(shard: Shard) -> Input:
    return Input(shard.path, shard.sha256)


def documents_of(table: pa.Table) -> Iterator[Document]:
    """DataTrove documents from rows of a document shard; columns that are null are left out of their metadata."""
    names = [name for name in table.column_names if name not in ("id", "text")]
    names = [name for name in names if table[name].null_count < table.num_rows]
    columns = [table[name].to_pylist() for name in ("id", "text", *names)]
    for key, text, *values in zip(*columns, strict=True):
        rest = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        yield Document(text=text, id=key, metadata=rest)


def columns_of(documents: list[Document], names: Iterable[str]) -> dict[str, list[Any]]:
    """Documents as columns: their ids, their texts, and of `names` those that any of them has in its metadata."""
    there = set[str]().union(*(document.metadata for document in documents)).intersection(names)
    columns: dict[str, list[Any]] = {name: [document.metadata.get(name) for document in documents] for name in there}
    return columns | {"id": [document.id for document in documents], "text": [document.text for document in documents]}


@dataclass(kw_only=True, eq=False, repr=False)
class WriteDocuments(Writer):
    """Documents to Parquet, one file a task, or several of at most `rows_per_file`; columns of DOCUMENT alone."""

    name: ClassVar[str] = "documents"
    rows_per_file: int | None = None

    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """Files `.parquet`, or `-00000.parquet`, `-00001.parquet`, …"""
        first = next(documents, None)
        while first or not self.files:
            suffix = f"-{len(self.files):05d}.parquet" if self.rows_per_file else ".parquet"
            rest = islice(documents, self.rows_per_file and self.rows_per_file - 1)
            file = chain([first], rest) if first else ()
            self.files[suffix] = write_documents(file, DOCUMENT, attempt / suffix)
            first = next(documents, None)


def write_documents(documents: Iterable[Document], columns: Mapping[str, str], path: Path) -> int:
    """Documents to Parquet, a row group at a time; how many there were."""
    parts = batches(documents, GROUP)
    return write_parts((columns_of(part, columns) for part in parts), columns, path)


@dataclass(kw_only=True, eq=False, repr=False)
class WriteColumns(Writer):
    """A narrow table beside a shard, row for row: the values of `columns` in each document's metadata."""

    name: ClassVar[str] = "columns"
    columns: dict[str, str]

    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """One file, `.parquet`."""
        self.files[".parquet"] = write_documents(documents, self.columns, attempt / ".parquet")
