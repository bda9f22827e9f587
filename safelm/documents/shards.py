"""Read and write shards of documents."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc
from datatrove.data import Document

from safelm.builder.blocks import NOT_SELECTED, Input, Reader, Task, Writer
from safelm.builder.shards import Shard, shards, write_row_groups
from safelm.documents.batches import Size, batches
from specs.document import DOCUMENT, GUARDED

CHILD_SAFETY = "child_safety"


GROUP = Size(2048, 16 << 20)  # a row group, at most


@dataclass(kw_only=True, eq=False, repr=False)
class ReadShards(Reader):
    """Read the shards of an earlier stage, one task each; with `scores`, only documents whose score
    is in `select`.

    The metadata of a selected document has its `score` and, as `score_hazard`, the hazard the
    scorers named. One of a guarded hazard is dropped as child_safety, as at ingest: with scores is
    how writers and training read raw pages."""

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
        for part in text.batches():
            yield from documents_of(
                part if scores is None else self._selected(part, scores.slice(first), task)
            )
            first += part.num_rows
        if scores is not None and scores.num_rows != first:
            raise ValueError(
                f"{task.inputs[1].path}: expected {first} scores (got {scores.num_rows}); run `dvc repro score`"
            )

    def _selected(self, part: pa.Table, scores: pa.Table, task: Task) -> pa.Table:
        """The rows whose score is selected, with their scores. Raises ValueError for those of other
        documents.
        """
        scores = scores.slice(0, part.num_rows)
        ours, theirs = part["id"].to_pylist(), scores["id"].to_pylist()
        if ours != theirs:
            expected, got = next(pair for pair in zip_longest(ours, theirs) if pair[0] != pair[1])
            raise ValueError(
                f"{task.inputs[1].path}: expected the score of {expected}, got that of {got}; run `dvc repro score`"
            )
        part = part.append_column("score", scores["score"]).append_column(
            "score_hazard", scores["hazard"]
        )
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
    """DataTrove documents from rows of a document shard; columns that are null are left out of
    their metadata.
    """
    names = [name for name in table.column_names if name not in ("id", "text")]
    names = [name for name in names if table[name].null_count < table.num_rows]
    columns = [table[name].to_pylist() for name in ("id", "text", *names)]
    for key, text, *values in zip(*columns, strict=True):
        rest = {name: value for name, value in zip(names, values, strict=True) if value is not None}
        yield Document(text=text, id=key, metadata=rest)


def columns_of(documents: list[Document], names: Iterable[str]) -> dict[str, list[Any]]:
    """Documents as columns: their ids, their texts, and of `names` those that any of them has in
    its metadata.
    """
    there = set[str]().union(*(document.metadata for document in documents)).intersection(names)
    columns: dict[str, list[Any]] = {
        name: [document.metadata.get(name) for document in documents] for name in there
    }
    return columns | {
        "id": [document.id for document in documents],
        "text": [document.text for document in documents],
    }


@dataclass(kw_only=True, eq=False, repr=False)
class WriteDocuments(Writer):
    """Documents to Parquet, one file a task, or several of at most `rows_per_file`; columns of
    DOCUMENT alone.
    """

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
    return write_row_groups((columns_of(part, columns) for part in parts), columns, path)


@dataclass(kw_only=True, eq=False, repr=False)
class WriteColumns(Writer):
    """A narrow table beside a shard, row for row: the values of `columns` in each document's
    metadata.
    """

    name: ClassVar[str] = "columns"
    columns: dict[str, str]

    def write(self, documents: Iterator[Document], attempt: Path) -> None:
        """One file, `.parquet`."""
        self.files[".parquet"] = write_documents(documents, self.columns, attempt / ".parquet")


def text_digest(prompt: str | None, text: str) -> str:
    """The id of a document: 128 bits of the sha256 of its text (and of the request it answers, if
    it is a dialogue).
    """
    content = text if prompt is None else f"{prompt}\x00{text}"
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]
