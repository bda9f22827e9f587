"""Removal of exact duplicates across the files of a source.

Each file becomes shards on its own, so that a new file costs one shard. Afterwards only the ids are
read, 16 bytes each. Shards with duplicates of earlier files are rewritten from the store, so that
no page is extracted twice.
"""

import hashlib
from collections import Counter, defaultdict
from dataclasses import replace
from operator import attrgetter

import numpy as np
import pyarrow.parquet as pq

from safelm.builder.blocks import Task
from safelm.builder.manifest import File, Manifest, ManifestEntry, sorted_counts
from safelm.builder.run import make_shards
from safelm.builder.store import Store
from safelm.documents.shards import WriteDocuments, shard_inputs
from safelm.ingestion.duplicates import DUPLICATE, ReadDistinct

TABLE = ".parquet"


def without_duplicates(manifest: Manifest, store: Store, rows_per_file: int | None) -> Manifest:
    """Return the manifest of a source with every document in only one of its shards.

    Shards with duplicates are written again, in files of at most `rows_per_file` documents.
    """
    duplicates = _duplicates(manifest, store)
    if not duplicates:
        return manifest
    stale = []
    for name, entry in manifest.tasks:
        ids = duplicates.get(name, ())
        # A task of duplicates alone leaves nothing to write.
        if 0 < len(ids) < entry.ledger.rows_out:
            inputs = shard_inputs(map(store.shard, _tables(entry)))
            stale.append(Task(name, inputs, ids, rows=entry.ledger.rows_out))
    written: dict[str, ManifestEntry] = {}
    if stale:
        blocks = [ReadDistinct(listed=stale), WriteDocuments(rows_per_file=rows_per_file)]
        written = dict(make_shards(f"{manifest.stage}/duplicates", blocks, store).tasks)
    tasks = []
    for name, entry in manifest.tasks:
        if name in duplicates:
            entry = _merge(entry, written.get(name), duplicates[name])
        tasks.append((name, entry))
    return replace(manifest, tasks=tuple(tasks))


def _tables(entry: ManifestEntry) -> list[File]:
    return [file for file in entry.files if file.suffix.endswith(TABLE)]


def _duplicates(manifest: Manifest, store: Store) -> dict[str, tuple[str, ...]]:
    """Return, by task, the ids that an earlier task has too."""
    counts = []
    ids: list[np.ndarray] = []
    for entry in manifest.entries():
        ids_of_task = [_ids(store, file) for file in _tables(entry)]
        counts.append(sum(map(len, ids_of_task)))
        ids += ids_of_task
    if len(ids) < 2:
        return {}
    rows = np.concatenate(ids)
    # The sort is stable: of equal ids the first in the source stays first.
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    ordered = rows[order]
    is_same = (ordered[1:] == ordered[:-1]).all(axis=1)
    repeated = np.sort(order[1:][is_same])
    tasks = np.searchsorted(np.cumsum(counts), repeated, side="right")
    duplicates: defaultdict[str, list[str]] = defaultdict(list)
    for task, id in zip(tasks, rows[repeated].astype(">u8"), strict=True):
        name, _ = manifest.tasks[task]
        duplicates[name].append(id.tobytes().hex())
    return {name: tuple(values) for name, values in duplicates.items()}


def _ids(store: Store, file: File) -> np.ndarray:
    """Return the ids of a table as pairs of numbers, of shape (documents, 2)."""
    # numpy has no integers of 128 bits.
    parquet = pq.ParquetFile(store.object(file.md5), page_checksum_verification=True)
    text = "".join(parquet.read(columns=["id"])["id"].to_pylist())
    return np.frombuffer(bytes.fromhex(text), dtype=">u8").reshape(-1, 2)


def _merge(
    entry: ManifestEntry, rewritten: ManifestEntry | None, ids: tuple[str, ...]
) -> ManifestEntry:
    """Return the entry of a task whose tables were rewritten without the duplicates `ids`.

    A task of which nothing is left has no table.
    """
    files = [file for file in entry.files if not file.suffix.endswith(TABLE)]
    rows_out = 0
    if rewritten:
        files += rewritten.files
        rows_out = rewritten.ledger.rows_out
    dropped = Counter(entry.ledger.dropped)
    dropped[DUPLICATE] += len(ids)
    # The rows were counted when they were read; only the duplicates among them are new.
    ledger = replace(entry.ledger, rows_out=rows_out, dropped=sorted_counts(dropped))
    ledger.check("duplicates across files")
    content = "\n".join([entry.key, *ids])
    key = hashlib.sha256(content.encode()).hexdigest()
    return ManifestEntry(key, tuple(sorted(files, key=attrgetter("suffix"))), ledger)
