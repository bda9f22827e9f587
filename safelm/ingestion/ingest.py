"""Ingestion of a source: shards without duplicates, or an error if too much is quarantined."""

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence

from safelm.builder.blocks import Block
from safelm.builder.executors.base import QUARANTINE
from safelm.builder.locks import StageError, locked
from safelm.builder.manifest import Manifest, ManifestEntry
from safelm.builder.paths import scratch
from safelm.builder.run import EmptyOutputError, finish, make_shards
from safelm.builder.store import Store, project_store
from safelm.documents.shards import WriteDocuments
from safelm.ingestion.base import ReadSource
from safelm.ingestion.dedup import without_duplicates
from safelm.ingestion.demo import ReadDemo
from safelm.ingestion.html import ReadHtml
from safelm.ingestion.huggingface import ReadHuggingFace
from safelm.ingestion.jsonl import ReadJsonl
from safelm.ingestion.metadata import Row
from safelm.ingestion.parquet import ReadParquet
from safelm.ingestion.warc import ReadWarc, ReadWet

# The readers by their names in params.yaml (`reader` of a row of `sources`).
READERS: dict[str, Callable[..., ReadSource]] = {
    "demo": ReadDemo,
    "jsonl": ReadJsonl,
    "parquet": ReadParquet,
    "warc": ReadWarc,
    "wet": ReadWet,
    "html": ReadHtml,
    "huggingface": ReadHuggingFace,
}


def ingest(stage: str, blocks: Sequence[Block], *, max_quarantined_share: float) -> Manifest:
    """Build a stage as `safelm.builder.run.run` does, with no document in it twice.

    Raises StageError if the source is empty, or if more than `max_quarantined_share` of its rows
    are in quarantine, or of its bytes in files without a usable row.
    """
    began = time.monotonic()
    store = project_store()
    reader, writer = blocks[0], blocks[-1]
    assert isinstance(reader, ReadSource) and isinstance(writer, WriteDocuments)
    with locked(stage):
        manifest = _make_shards(stage, blocks, store)
        _check_quarantine(manifest, store, max_quarantined_share, reader.sizes())
        manifest = without_duplicates(manifest, store, writer.rows_per_file)
        finish(manifest, began)
    return manifest


def _make_shards(stage: str, blocks: Sequence[Block], store: Store) -> Manifest:
    """Make the shards; if no row is usable, add the reasons to the error."""
    try:
        return make_shards(stage, blocks, store)
    except EmptyOutputError as error:
        if not error.manifest.ledger.quarantined:
            raise
        ledger = error.manifest.ledger
        raise StageError(
            f"{stage}: produced no output from {ledger.rows_in:,} rows: {ledger.summary()}; "
            f"correct the row of `sources`\n{_reasons(error.manifest, store)}"
        ) from error


def _check_quarantine(
    manifest: Manifest, store: Store, max_share: float, sizes: Mapping[str, int]
) -> None:
    """Raise StageError for an empty source, or one of which too much is quarantined.

    `sizes` has the bytes of every file by its name in the quarantine.
    """
    ledger = manifest.ledger
    if not ledger.rows_in:
        raise StageError(
            f"{manifest.stage}: there is no row in any of its files; "
            "correct `path` or `files` of the source"
        )
    broken = sum(ledger.quarantined.values())
    if broken > max_share * ledger.rows_in:
        raise StageError(
            f"{manifest.stage}: {broken:,} of {ledger.rows_in:,} rows are in quarantine, more than "
            f"ingest.max_quarantined_share allows ({max_share:.2%}); repair the source, or allow "
            f"more in params.yaml\n{_reasons(manifest, store)}"
        )
    # A lost file is one row of the quarantine, however many documents it had. Its bytes tell more.
    lost = _lost_files(manifest, store) & set(sizes)
    # 1, because a reader without files has no sizes.
    share = sum(sizes[name] for name in lost) / max(1, sum(sizes.values()))
    if share > max_share:
        raise StageError(
            f"{manifest.stage}: {len(lost):,} of {len(sizes):,} files ({share:.2%} of the bytes) "
            "have no usable row, more than ingest.max_quarantined_share allows "
            f"({max_share:.2%}); repair these files, or remove them from the source\n"
            f"{_reasons(manifest, store)}"
        )


def _lost_files(manifest: Manifest, store: Store) -> set[str]:
    """Return the names of the files of tasks whose rows are all in quarantine."""
    names: set[str] = set()
    for entry in manifest.entries():
        if sum(entry.ledger.quarantined.values()) == entry.ledger.rows_in:
            names.update(row["file"] for row in _quarantined(entry, store))
    return names


def _reasons(manifest: Manifest, store: Store) -> str:
    """Return a table of the reasons, their counts and the first row of each.

    The whole quarantine is written to a log, because a stage that failed has no folder for it.
    """
    rows: list[Row] = []
    for entry in manifest.entries():
        rows += _quarantined(entry, store)
    first: dict[str, str] = {}
    for row in rows:
        detail = f" ({row['detail']})" if "detail" in row else ""
        first.setdefault(row["reason"], f"{row['file']}:{row['offset']}{detail}")
    log = scratch("logs", f"{manifest.stage}{QUARANTINE}")
    log.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows)
    log.write_text(text, encoding="utf-8")
    counts = manifest.ledger.quarantined
    width = max(map(len, counts))
    lines = [f"  {'reason':<{width}}  {'rows':>9}  first at file:offset"]
    for reason, count in sorted(counts.items()):
        lines.append(f"  {reason:<{width}}  {count:>9,}  {first[reason]}")
    return "\n".join([*lines, f"  every row: {log}"])


def _quarantined(entry: ManifestEntry, store: Store) -> Iterator[Row]:
    for file in entry.files:
        if file.suffix == QUARANTINE:
            data = store.object(file.md5).read_bytes()
            yield from map(json.loads, data.splitlines())
