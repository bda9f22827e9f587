"""Removal of exact duplicates across the files of a source.

Each file becomes shards on its own, so that a new file costs one shard. Afterwards only the ids are
read, as bytes. Shards with duplicates of earlier files are rewritten from the store, so that
no page is extracted twice.
"""

import hashlib
from collections import Counter
from dataclasses import replace
from operator import attrgetter

import pyarrow.parquet as pq

from safelm.builder.blocks import Task
from safelm.builder.manifest import File, Manifest, ManifestEntry, sorted_counts
from safelm.builder.run import make_shards
from safelm.builder.store import Store
from safelm.documents.shards import WriteDocuments, shard_inputs
from safelm.ingestion.duplicates import DUPLICATE, ReadDistinct


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
    return [file for file in entry.files if file.is_table]


def _duplicates(manifest: Manifest, store: Store) -> dict[str, tuple[str, ...]]:
    """Return, by task, the ids that an earlier task has too."""
    # Here, because a process that only reads needs none of its 35 MB.
    import polars as pl

    tables = []
    for number, (_, entry) in enumerate(manifest.tasks):
        for file in _tables(entry):
            # Page check sums instead of the file's digest, because only its ids are read.
            parquet = pq.ParquetFile(store.object(file.md5), page_checksum_verification=True)
            ids = pl.Series(parquet.read(columns=["id"])["id"])
            tables.append(pl.select(task=pl.lit(number), id=ids.str.decode("hex")))
    if len(tables) < 2:
        return {}
    # Of equal ids the first in the source stays.
    repeated = pl.concat(tables).filter(~pl.col("id").is_first_distinct())
    by_task = repeated.group_by("task").agg(pl.col("id").bin.encode("hex"))
    return {manifest.tasks[number][0]: tuple(ids) for number, ids in by_task.iter_rows()}


def _merge(
    entry: ManifestEntry, rewritten: ManifestEntry | None, ids: tuple[str, ...]
) -> ManifestEntry:
    """Return the entry of a task whose tables were rewritten without the duplicates `ids`.

    A task of which nothing is left has no table.
    """
    files = [file for file in entry.files if not file.is_table]
    rows_out = 0
    if rewritten:
        files += rewritten.files
        rows_out = rewritten.ledger.rows_out
    dropped = Counter(entry.ledger.dropped)
    dropped[DUPLICATE] += len(ids)
    # The rows were counted when they were read; only the duplicates among them are new.
    ledger = replace(entry.ledger, rows_out=rows_out, dropped=sorted_counts(dropped))
    ledger.check("duplicates across files")
    # A key of its own: which ids are duplicates depends on the other files of the source.
    content = "\n".join([entry.key, *ids])
    key = hashlib.sha256(content.encode()).hexdigest()
    return ManifestEntry(key, tuple(sorted(files, key=attrgetter("suffix"))), ledger)
