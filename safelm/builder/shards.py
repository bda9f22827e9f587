"""Shards on disk: files of a manifest, whose digest every read checks."""

import hashlib
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from safelm.builder.digest import cached_digest, remember_digest
from safelm.builder.files import attach_filename
from safelm.builder.manifest import CHANGED, DamagedShard, Manifest

BATCH = 1024  # rows that are Python objects at a time


@dataclass(frozen=True)
class Shard:
    """A file of a manifest, with the number of its rows and the digest that it must have."""

    path: Path
    rows: int
    sha256: str

    @property
    def name(self) -> str:
        """The shard's name without its file type: 00000-00000."""
        return self.path.name.partition(".")[0]

    def bytes(self) -> bytes:
        """Read the whole file.

        Raises:
            DamagedShard: it is missing, or its digest is another one.
        """
        try:
            state = self.path.stat()
            data = self.path.read_bytes()
        except FileNotFoundError as error:
            raise self._missing() from error
        digest = hashlib.sha256(data).hexdigest()
        self._compare(digest)
        remember_digest(self.path, state, digest, time.time_ns())
        return data

    def check(self) -> None:
        """Raise DamagedShard unless the file has its digest; it is not held in memory."""
        try:
            digest = cached_digest(self.path)
        except FileNotFoundError as error:
            raise self._missing() from error
        self._compare(digest)

    def _missing(self) -> DamagedShard:
        return DamagedShard(f"{self.path}: is missing; run `dvc checkout` or `dvc repro`")

    def _compare(self, digest: str) -> None:
        if digest != self.sha256:
            # The time of a whole file may be known. With another one the next build hashes it.
            with suppress(OSError):
                os.utime(self.path)
            raise DamagedShard(
                f"{self.path}: expected sha256 {self.sha256[:16]}…, got {digest[:16]}…: "
                f"the file {CHANGED}; `make repro` and `make verify REPAIR=1` make it again"
            )

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Read the shard, or some of its columns, as an Arrow table."""
        return self._open().read(columns=list(columns) if columns else None, use_threads=False)

    def batches(self) -> Iterator[pa.Table]:
        """Read the shard as Arrow tables of BATCH rows: faster than whole, and less memory."""
        for batch in self._open().iter_batches(batch_size=BATCH, use_threads=False):
            yield pa.Table.from_batches([batch])

    def _open(self) -> pq.ParquetFile:
        # Never read with threads: one of Arrow's that releases these bytes while Python ends
        # aborts the process, its work done (apache/arrow#34314; 4 of 65 reads on a busy machine).
        # Not pq.read_table, which imports pandas: half a second.
        return pq.ParquetFile(pa.BufferReader(self.bytes()))


def shards(folder: Path, suffix: str = ".parquet") -> list[Shard]:
    """List the shards of a folder that end in `suffix`, in order."""
    return [shard for shard in _listed(folder) if shard.path.name.endswith(suffix)]


def check_folder(folder: Path) -> None:
    """Raise DamagedShard where a file is missing or has other bytes than the manifest promises."""
    for shard in _listed(folder):
        shard.check()


def _listed(folder: Path) -> Iterator[Shard]:
    for name, file in Manifest.read(folder).files():
        yield Shard(folder / name, file.rows, file.sha256)


def tables(folder: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """Read the Parquet shards of a folder, one after another."""
    for shard in shards(folder):
        yield shard.table(columns)


def arrow_schema(columns: Mapping[str, str]) -> pa.Schema:
    """Build an Arrow schema from the names and types of columns, in order."""
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])


def write_table(
    rows: Sequence[Mapping[str, object]],
    columns: Mapping[str, str],
    path: Path,
) -> None:
    """Write rows to Parquet; a key that is not among `columns` is left out."""
    values = {name: _column(rows, name) for name in columns}
    write_row_groups([values] if rows else (), columns, path)


def _column(rows: Sequence[Mapping[str, object]], name: str) -> list[object]:
    return [row.get(name) for row in rows]


def write_row_groups(
    groups: Iterable[Mapping[str, Sequence[object]]],
    columns: Mapping[str, str],
    path: Path,
) -> int:
    """Write columns to Parquet, a row group for each group of them; return the number of rows.

    A column that a group lacks is null. Bytes depend on the values alone: one declared schema,
    zstd, page checksums, no clock and no path.
    """
    schema = arrow_schema(columns)
    rows = 0
    settings = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True}
    with attach_filename(path), pq.ParquetWriter(path, schema, **settings) as writer:
        for group in groups:
            size = len(next(iter(group.values())))
            arrays = []
            for field in schema:
                values = group.get(field.name) or [None] * size
                arrays.append(pa.array(values, field.type))
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            rows += size
    return rows
