"""Exact duplicates across the files of a source: the first file that has a document keeps it.

Files become shards each for itself, so that a new file costs one shard. Then only the ids are read,
16 bytes each, and only the shards that hold repeats are written again: from the store, for a page
is not extracted twice."""

import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from datatrove.data import Document

from safelm.builder.blocks import Block, Input, Reader, Task
from safelm.builder.manifest import File, Ledger, Manifest, ManifestEntry
from safelm.builder.run import make_shards
from safelm.builder.shards import Shard
from safelm.builder.store import Store
from safelm.documents.shards import WriteDocuments, documents_of

TABLE = ".parquet"


def without_duplicates(manifest: Manifest, store: Store, rows: int | None) -> Manifest:
    """The manifest of a source whose every document is in one of its shards only; files of at most
    `rows` documents.
    """
    repeats = _repeats(manifest, store)
    if not repeats:
        return manifest
    again = [
        Task(
            name,
            tuple(Input(store.object(file.md5), file.sha256) for file in _tables(record)),
            repeats[name],
        )
        for name, record in manifest.tasks
        if name in repeats and len(repeats[name]) < record.ledger.rows_out
    ]
    blocks = [ReadAgain(again=again), WriteDocuments(rows_per_file=rows)]
    written = dict(make_shards(f"{manifest.stage}/repeats", blocks, store).tasks) if again else {}
    tasks = [
        (name, _merged(record, written.get(name), repeats[name]) if name in repeats else record)
        for name, record in manifest.tasks
    ]
    return replace(manifest, tasks=tuple(tasks))


def _tables(record: ManifestEntry) -> list[File]:
    return [file for file in record.files if file.suffix.endswith(TABLE)]


def _repeats(manifest: Manifest, store: Store) -> dict[str, tuple[str, ...]]:
    """By task, the ids that a task before it has too. Ids are numbers here, two to an id, sorted
    stably.
    """
    counts, keys = [], []
    for _, record in manifest.tasks:
        ids = [_ids(store, file) for file in _tables(record)]
        counts.append(sum(map(len, ids)))
        keys += ids
    if len(keys) < 2:
        return {}
    every = np.concatenate(keys)
    order = np.lexsort((every[:, 1], every[:, 0]))
    is_same = (every[order[1:]] == every[order[:-1]]).all(axis=1)
    rows = np.sort(order[1:][is_same])
    owners = np.searchsorted(np.cumsum(counts), rows, side="right")
    found: dict[str, list[str]] = {}
    for owner, key in zip(owners, every[rows].astype(">u8"), strict=True):
        found.setdefault(manifest.tasks[owner][0], []).append(key.tobytes().hex())
    return {name: tuple(ids) for name, ids in found.items()}


def _ids(store: Store, file: File) -> np.ndarray:
    table = pq.ParquetFile(store.object(file.md5), page_checksum_verification=True).read(
        columns=["id"]
    )
    text = "".join(table["id"].to_pylist())
    return np.frombuffer(bytes.fromhex(text), dtype=">u8").reshape(-1, 2)


def _merged(
    first: ManifestEntry, again: ManifestEntry | None, ids: tuple[str, ...]
) -> ManifestEntry:
    """One record for a task that was read once and written twice. A task of which nothing is left
    has no table.
    """
    files = [file for file in first.files if not file.suffix.endswith(TABLE)] + list(
        again.files if again else ()
    )
    was = first.ledger
    dropped = Counter(was.dropped) + Counter({DUPLICATE: len(ids)})
    left = again.ledger.rows_out if again else 0
    ledger = Ledger(was.rows_in, left, dict(sorted(dropped.items())), was.quarantined).check(
        "duplicates across files"
    )
    key = hashlib.sha256("\n".join([first.key, *ids]).encode()).hexdigest()
    return ManifestEntry(key, tuple(sorted(files, key=lambda file: file.suffix)), ledger)


DUPLICATE = "duplicate"


@dataclass(kw_only=True, eq=False, repr=False)
class DropDuplicates(Block):
    """Drop, as duplicate, every document whose id came before in the same task. Ids alone are kept
    in memory.
    """

    type: ClassVar[str] = "filter"
    name: ClassVar[str] = "duplicates"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.seen: set[bytes] = set()

    def process(self, document: Document) -> Iterator[Document]:
        """Pass on a document whose id is new."""
        key = bytes.fromhex(document.id)
        if key in self.seen:
            self.drop(DUPLICATE)
        else:
            self.seen.add(key)
            yield document


@dataclass(kw_only=True, eq=False, repr=False)
class ReadAgain(Reader):
    """Read shards that were made a moment ago, and drop, as duplicate, the documents that the
    task's values name.
    """

    name: ClassVar[str] = "shards again"
    again: list[Task] = field(metadata={"key": False})

    def tasks(self) -> list[Task]:
        """Those given."""
        return self.again

    def read(self, task: Task) -> Iterator[Document]:
        """Every document that is not a repeat."""
        repeats = pa.array(task.values, pa.string())
        for item in task.inputs:
            for part in Shard(item.path, 0, item.sha256).batches():
                kept = part.filter(pc.invert(pc.is_in(part["id"], repeats)))
                self.drop(DUPLICATE, part.num_rows - kept.num_rows)
                yield from documents_of(kept)
