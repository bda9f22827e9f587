"""A source becomes shards: read, without duplicates, refused when too much of it is broken."""

import json
import time
from collections.abc import Iterator, Sequence
from typing import Any

from safelm.builder.blocks import Block, Reader
from safelm.builder.executors.base import QUARANTINE
from safelm.builder.locks import StageError, locked
from safelm.builder.manifest import Manifest, ManifestEntry
from safelm.builder.paths import cache, scratch
from safelm.builder.run import finish, make_shards, shard_key
from safelm.builder.store import Store
from safelm.documents.shards import WriteDocuments
from safelm.ingestion.dedup import without_duplicates


def ingest(stage: str, blocks: Sequence[Block], *, max_quarantined_share: float) -> Manifest:
    """Build a stage as `run` does, with what a source needs: no document twice, and not too much in
    quarantine.
    """
    began = time.monotonic()
    store = Store(cache(), scratch())
    writer = blocks[-1]
    assert isinstance(writer, WriteDocuments)
    with locked(stage):
        manifest = _made(stage, blocks, store)
        _check(manifest, store, max_quarantined_share)
        manifest = without_duplicates(manifest, store, writer.rows_per_file)
        finish(manifest, began)
    return manifest


def _made(stage: str, blocks: Sequence[Block], store: Store) -> Manifest:
    """The shards. Where nothing of the source is usable, the error says what was wrong with it."""
    try:
        return make_shards(stage, blocks, store)
    except StageError as error:
        reader = blocks[0]
        assert isinstance(reader, Reader)
        records = [store.get(shard_key(stage, task, blocks)) for task in reader.tasks()]
        whole = tuple((str(number), record) for number, record in enumerate(records) if record)
        if len(whole) < len(records) or not any(record.ledger.quarantined for _, record in whole):
            raise
        raise StageError(f"{error}\n{_table(Manifest(stage, whole), store)}") from error


def _check(manifest: Manifest, store: Store, allowed: float) -> None:
    """Refuse a source that is empty, or broken beyond what params.yaml allows (faults.md Q4)."""
    ledger = manifest.ledger
    if not ledger.rows_in:
        raise StageError(
            f"{manifest.stage}: there is no row in any of its files; mend `path` or `files` of the source"
        )
    broken = sum(ledger.quarantined.values())
    if broken > allowed * ledger.rows_in:
        raise StageError(
            f"{manifest.stage}: {broken:,} of {ledger.rows_in:,} rows are in quarantine, more than "
            f"ingest.max_quarantined_share allows ({allowed:.2%}); mend the source, or allow more in params.yaml\n{_table(manifest, store)}"
        )


def _table(manifest: Manifest, store: Store) -> str:
    """Reasons with their counts and the file and offset of the first row of each. No text of a
    document.

    The stage has no folder to keep the whole quarantine in, so it is left among the logs.
    """
    rows = [row for _, record in manifest.tasks for row in _quarantined(record, store)]
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(row["reason"], f"{row['file']}:{row['offset']}")
    log = scratch("logs", f"{manifest.stage}{QUARANTINE}")
    log.parent.mkdir(parents=True, exist_ok=True)
    log.write_text(
        "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows), encoding="utf-8"
    )
    counts = manifest.ledger.quarantined
    width = max(map(len, counts))
    lines = [
        f"  {reason:<{width}}  {counts[reason]:>9,}  {first[reason]}" for reason in sorted(counts)
    ]
    return "\n".join(
        [f"  {'reason':<{width}}  {'rows':>9}  first at file:offset", *lines, f"  every row: {log}"]
    )


def _quarantined(record: ManifestEntry, store: Store) -> Iterator[dict[str, Any]]:
    for file in record.files:
        if file.suffix == QUARANTINE:
            yield from map(json.loads, store.object(file.md5).read_bytes().splitlines())
