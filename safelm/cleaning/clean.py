"""Cleaning of a source: its documents through its filters, one after another."""

import hashlib
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from safelm.builder.blocks import Block, Reader, Task
from safelm.builder.locks import locked
from safelm.builder.manifest import Ledger, Manifest, ManifestEntry, sorted_counts
from safelm.builder.run import finish, make_shards
from safelm.builder.shards import Shard
from safelm.builder.store import Store, project_store
from safelm.cleaning.filters import DropByDatatrove, DropByLanguage, DropOverlap
from safelm.cleaning.near_duplicates import (
    PAIRS,
    DropRows,
    PairDocuments,
    SignDocuments,
    band_columns,
    later_of_clusters,
    without_rows,
)
from safelm.documents.shards import ReadShards, WriteColumns, WriteDocuments, shard_inputs
from safelm.ingestion.dedup import without_duplicates
from specs.filter import FilterRow, NearDuplicates

BLOCKS = {"datatrove": DropByDatatrove, "language": DropByLanguage, "overlap": DropOverlap}
Filters = Mapping[str, FilterRow]
# The prompts of each suite that a row of kind overlap names, by suite.
Prompts = Mapping[str, Sequence[str]]


def clean(stage: str, folder: Path, filters: Filters, prompts: Prompts) -> Manifest:
    """Build a stage such as clean/web from the documents of `folder`, by `filters` in their order.

    Every drop has its filter's name in the ledger, most with a reason: quality/gopher_short_doc.
    Without a filter the files have the same bytes as those of `folder`.

    Raises:
        StageError: no document is left, or the stage is locked.
    """
    began = time.monotonic()
    with locked(stage):
        manifest = _Cleaning(stage, folder).run(filters, prompts)
        finish(manifest, began)
    return manifest


class _Cleaning:
    """The steps of a cleaning: `read` and `blocks` are those since documents were last written."""

    def __init__(self, stage: str, folder: Path) -> None:
        self.stage = stage
        self.store = project_store()
        self.read: Reader = ReadShards(folder=folder)
        self.blocks: list[Block] = []
        self.written: Manifest | None = None

    def run(self, filters: Filters, prompts: Prompts) -> Manifest:
        for name, row in filters.items():
            if isinstance(row, NearDuplicates):
                self.drop_near_duplicates(name, row)
            else:
                self.blocks.append(_block(name, row, prompts))
        manifest = self.write(self.stage)
        # An edited text may have become that of another document.
        if any(row.kind == "datatrove" for row in filters.values()):
            manifest = without_duplicates(manifest, self.store, None)
        return manifest

    def write(self, stage: str) -> Manifest:
        """Write the documents that the steps so far leave; the ledger counts from the start."""
        manifest = make_shards(stage, [self.read, *self.blocks, WriteDocuments()])
        if self.written is not None:
            manifest = _continued(self.written, manifest)
        self.written = manifest
        return manifest

    def drop_near_duplicates(self, name: str, row: NearDuplicates) -> None:
        """Find the near-duplicates among the documents so far, and read on without them."""
        stage = f"{self.stage}/{name}"
        if self.blocks or isinstance(self.read, DropRows):
            # Else the earlier filters would run twice: before the signatures and after them.
            manifest = self.write(f"{stage}/documents")
            self.read = DropRows(listed=_tasks(manifest, self.store), row=name)
            self.blocks = []
        sign = SignDocuments(ngram=row.ngram, bands=row.bands, rows=row.rows, seed=row.seed)
        columns = WriteColumns(columns=band_columns(row.bands))
        signed = make_shards(f"{stage}/signatures", [self.read, sign, columns])
        read = PairDocuments(signatures=_shards(signed, self.store), bands=row.bands)
        paired = make_shards(f"{stage}/pairs", [read, WriteColumns(columns=PAIRS)])
        positions = later_of_clusters(_shards(paired, self.store))
        self.read = DropRows(listed=without_rows(self.read.tasks(), positions), row=name)


def _block(name: str, row: FilterRow, prompts: Prompts) -> Block:
    values = row.model_dump(exclude={"kind", "suites"})
    if row.kind == "overlap":
        values["prompts"] = {suite: list(prompts[suite]) for suite in row.suites}
    block: Block = BLOCKS[row.kind](row=name, **values)
    return block


def _shards(manifest: Manifest, store: Store) -> list[Shard]:
    """List the tables of a manifest, which are not in build/."""
    files = (file for _, file in manifest.files() if file.is_table)
    return list(map(store.shard, files))


def _tasks(manifest: Manifest, store: Store) -> list[Task]:
    """List a task for each shard of a manifest, under the shard's name."""
    names = [name for name, _ in manifest.tasks]
    tasks = []
    for name, shard in zip(names, _shards(manifest, store), strict=True):
        tasks.append(Task(name, shard_inputs([shard]), rows=shard.rows))
    return tasks


def _continued(before: Manifest, after: Manifest) -> Manifest:
    """Return `after`, whose shards were made of those of `before`, with what both left out."""
    tasks = []
    for (name, first), (_, last) in zip(before.tasks, after.tasks, strict=True):
        dropped = Counter(first.ledger.dropped) + Counter(last.ledger.dropped)
        quarantined = Counter(first.ledger.quarantined) + Counter(last.ledger.quarantined)
        ledger = Ledger(
            first.ledger.rows_in,
            last.ledger.rows_out,
            sorted_counts(dropped),
            sorted_counts(quarantined),
        )
        # The first pass leaves its quarantine; its documents were read again.
        files = [file for file in first.files if not file.is_table]
        # Of both keys, because a shard depends on the filters of both passes.
        key = hashlib.sha256(f"{first.key}\n{last.key}".encode()).hexdigest()
        tasks.append((name, ManifestEntry(key, (*files, *last.files), ledger.check(name))))
    return Manifest(after.stage, tuple(tasks), after.made)
