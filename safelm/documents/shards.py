"""Read and write shards of documents."""

import hashlib
from abc import abstractmethod
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from datatrove.data import Document

from safelm.builder.blocks import NOT_SELECTED, Documents, Input, Reader, Task, Writer, unkeyed
from safelm.builder.paths import build
from safelm.builder.shards import Shard, shards, write_row_groups
from safelm.documents.batches import Size, batches
from specs.document import DOCUMENT, GUARDED

CHILD_SAFETY = "child_safety"
# The largest row group.
GROUP = Size(2048, 16 << 20)


class ReadShards(Reader):
    """Read the shards of an earlier stage, one task each.

    With `scores`, only documents whose score is in `select` are read. Their metadata has the
    `score` and, as `score_hazard`, the hazard that the scorers named. Documents of a guarded
    hazard are dropped as child_safety.
    """

    name = "shards"
    # Not in the key, because the files of both folders are inputs of the tasks.
    folder: Path = unkeyed()
    scores: Path | None = unkeyed(default=None)
    select: tuple[int, ...] | None = None

    def tasks(self) -> list[Task]:
        """List one task per shard, with the score file of the same name.

        Raises FileNotFoundError for a shard without scores.
        """
        score_files = {}
        if self.scores is not None:
            score_files = {shard.name: shard for shard in shards(self.scores)}
        tasks = []
        for shard in shards(self.folder):
            files = [shard]
            if self.scores is not None:
                if shard.name not in score_files:
                    raise FileNotFoundError(
                        f"{self.scores}: expected a score file for every shard "
                        f"(got none for {shard.name}); run `dvc repro score`"
                    )
                files.append(score_files[shard.name])
            tasks.append(Task(shard.name, shard_inputs(files), rows=shard.rows))
        return tasks

    def read(self, task: Task) -> Documents:
        """Yield every selected document of one shard.

        Raises ValueError if the scores are not those of the documents, row for row.
        """
        documents, *score_files = input_shards(task)
        scores = score_files[0].table(("id", "score", "hazard")) if score_files else None
        rows = 0
        for batch in documents.batches():
            size = batch.num_rows
            if scores is not None:
                # The score file has the same rows in the same order.
                own_scores = scores.slice(rows, size)
                batch = self._select(batch, own_scores, task)
            rows += size
            yield from documents_of(batch)
        if scores is not None and scores.num_rows != rows:
            raise ValueError(
                f"{task.inputs[1].path}: expected {rows} scores (got {scores.num_rows}); "
                "run `dvc repro score`"
            )

    def _select(self, batch: pa.Table, scores: pa.Table, task: Task) -> pa.Table:
        """Return the rows whose score is selected, with their scores."""
        ids = batch["id"].to_pylist()
        scored_ids = scores["id"].to_pylist()
        if ids != scored_ids:
            # The shorter of the two ends in None, which is no id.
            pairs = zip_longest(ids, scored_ids)
            expected, got = next(pair for pair in pairs if pair[0] != pair[1])
            raise ValueError(
                f"{task.inputs[1].path}: expected the score of {expected} (got that of {got}); "
                "run `dvc repro score`"
            )
        batch = batch.append_column("score", scores["score"])
        batch = batch.append_column("score_hazard", scores["hazard"])
        # As at ingest, which did not know this hazard yet: synthesis and training read these pages.
        is_guarded = pc.is_in(batch["score_hazard"], pa.array(GUARDED))
        batch = self._filter(batch, pc.invert(is_guarded), CHILD_SAFETY)
        if self.select is None:
            return batch
        # Of the column's type, which an empty selection does not show.
        selected = pa.array(self.select, batch["score"].type)
        is_selected = pc.is_in(batch["score"], selected)
        return self._filter(batch, is_selected, NOT_SELECTED)

    def _filter(self, batch: pa.Table, is_kept: pa.ChunkedArray, reason: str) -> pa.Table:
        kept = batch.filter(is_kept)
        self.drop(reason, batch.num_rows - kept.num_rows)
        return kept


class ReadRest(Reader):
    """Read shards again without some of their rows; `row` is the name of these in the ledger.

    A task's values say which rows are dropped.
    """

    listed: list[Task] = unkeyed()
    row: str

    @abstractmethod
    def is_dropped(self, batch: pa.Table, begin: int, values: tuple[Any, ...]) -> Any:
        """Return a bool for each row of a batch, which begins with row `begin` of the task."""

    def tasks(self) -> list[Task]:
        """Return the tasks."""
        return self.listed

    def read(self, task: Task) -> Documents:
        """Yield the documents of the other rows."""
        begin = 0
        for shard in input_shards(task):
            for batch in shard.batches():
                is_dropped = self.is_dropped(batch, begin, task.values)
                begin += batch.num_rows
                kept = batch.filter(pc.invert(is_dropped))
                self.drop(self.row, batch.num_rows - kept.num_rows)
                yield from documents_of(kept)


def shard_inputs(shards: Iterable[Shard]) -> tuple[Input, ...]:
    """Return shards as the inputs of a task."""
    return tuple(Input(shard.path, shard.sha256) for shard in shards)


def input_shards(task: Task) -> list[Shard]:
    """Return the inputs of a task as shards, whose rows are not known yet."""
    return [Shard(item.path, 0, item.sha256) for item in task.inputs]


def input_tables(task: Task) -> Iterator[pa.Table]:
    """Read the inputs of a task as Arrow tables; each must have its digest."""
    for shard in input_shards(task):
        yield shard.table()


def selected(reader: Reader, documents: Iterable[Document], ids: Collection[str]) -> Documents:
    """Yield the documents of some ids; the reader drops the others as not selected."""
    chosen = set(ids)
    for document in documents:
        if document.id in chosen:
            yield document
        else:
            reader.drop(NOT_SELECTED)


def read_documents(origin: str, scores: Sequence[int] | None = None) -> ReadShards:
    """Read the documents of build/<origin>, such as ingest/math or refuse/dialogues.

    With `scores`, the origin is a source that was scored, and the documents are those with one of
    these scores.
    """
    if scores is None:
        return ReadShards(folder=build(origin))
    source = origin.partition("/")[2]
    return ReadShards(folder=build(origin), scores=build("score", source), select=tuple(scores))


def documents_of(table: pa.Table) -> Documents:
    """Yield the rows of a document shard as DataTrove documents; metadata leaves out nulls."""
    # Most sources leave most columns null; dropping these first saves time.
    names = [name for name in table.column_names if table[name].null_count < table.num_rows]
    for row in table.select(names).to_pylist():
        metadata = {name: value for name, value in row.items() if value is not None}
        yield Document(text=metadata.pop("text"), id=metadata.pop("id"), metadata=metadata)


def columns_of(documents: list[Document], names: Iterable[str]) -> dict[str, list[Any]]:
    """Return documents as columns: id, text, and those of `names` that some metadata has."""
    # Only columns that occur; the writer fills the others with nulls.
    known = set[str]().union(*(document.metadata for document in documents))
    columns: dict[str, list[Any]] = {}
    for name in known.intersection(names):
        columns[name] = [document.metadata.get(name) for document in documents]
    columns["id"] = [document.id for document in documents]
    columns["text"] = [document.text for document in documents]
    return columns


class WriteDocuments(Writer):
    """Write the columns of DOCUMENT to Parquet, in files of at most `rows_per_file` documents.

    A task has one file, `.parquet`, if `rows_per_file` is None, else `-00000.parquet`,
    `-00001.parquet`, …
    """

    name = "documents"
    rows_per_file: int | None = None

    def write(self, documents: Documents, folder: Path) -> None:
        """Write every document; a task without documents has one empty file."""
        limit = self.rows_per_file
        # One document is read ahead, because only then another file is needed.
        first = next(documents, None)
        # A task without documents has a table too, for the stages that read it.
        while first or not self.files:
            suffix = f"-{len(self.files):05d}.parquet" if limit else ".parquet"
            # One less, because `first` was taken already.
            rest = islice(documents, limit - 1 if limit else None)
            file = chain([first], rest) if first else ()
            self.files[suffix] = write_documents(file, DOCUMENT, folder / suffix)
            first = next(documents, None)


def write_documents(documents: Iterable[Document], columns: Mapping[str, str], path: Path) -> int:
    """Write documents to Parquet, one row group at a time; return their number."""
    groups = (columns_of(batch, columns) for batch in batches(documents, GROUP))
    return write_row_groups(groups, columns, path)


class WriteColumns(Writer):
    """Write `columns` of the documents' metadata as a narrow table, one row per document."""

    name = "columns"
    columns: dict[str, str]

    def write(self, documents: Documents, folder: Path) -> None:
        """Write one file, `.parquet`."""
        self.files[".parquet"] = write_documents(documents, self.columns, folder / ".parquet")


def text_digest(prompt: str | None, text: str) -> str:
    """Return a document's id: 128 bits of the sha256 of its text and, if it has one, its prompt."""
    # The byte between them keeps ("a", "bc") and ("ab", "c") apart.
    content = text if prompt is None else f"{prompt}\x00{text}"
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]
