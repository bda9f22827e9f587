"""Shards on disk: a folder of files and the manifest that lists them; every read checks the digest."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from safelm.builder.digest import cached_digest, remember_digest
from safelm.builder.files import attach_filename
from safelm.builder.manifest import DamagedShard, Manifest

BATCH = 1024  # rows that are Python objects at a time


@dataclass(frozen=True)
class Shard:
    """One file of a manifest."""

    path: Path
    rows: int
    sha256: str

    @property
    def name(self) -> str:
        """The shard's name without its file type: 00000-00000."""
        return self.path.name.partition(".")[0]

    def bytes(self) -> bytes:
        """The whole file, checked against its digest."""
        try:
            state = self.path.stat()
            data = self.path.read_bytes()
        except FileNotFoundError as error:
            raise DamagedShard(
                f"{self.path}: is missing; run `dvc checkout` or `dvc repro`"
            ) from error
        self._compare(got := hashlib.sha256(data).hexdigest())
        remember_digest(self.path, state, got)
        return data

    def check(self) -> None:
        """Raise DamagedShard unless the file has its digest; of large files little is in memory."""
        try:
            got = cached_digest(self.path)
        except FileNotFoundError as error:
            raise DamagedShard(
                f"{self.path}: is missing; run `dvc checkout` or `dvc repro`"
            ) from error
        self._compare(got)

    def _compare(self, got: str) -> None:
        if got != self.sha256:
            raise DamagedShard(
                f"{self.path}: expected sha256 {self.sha256[:16]}…, got {got[:16]}…: "
                "the file was changed after it was built; `make verify REPAIR=1` makes it again"
            )

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """The shard as an Arrow table, or only some of its columns."""
        return self._file().read(columns=list(columns) if columns else None, use_threads=False)

    def batches(self) -> Iterator[pa.Table]:
        """The shard as small Arrow tables, one after another: less memory, and faster for it."""
        for batch in self._file().iter_batches(batch_size=BATCH, use_threads=False):
            yield pa.Table.from_batches([batch])

    def _file(self) -> pq.ParquetFile:
        # Never read with threads: one of Arrow's that lets go of these bytes while Python ends
        # aborts the process, its work done (apache/arrow#34314; 4 of 65 reads on a busy machine).
        return pq.ParquetFile(
            pa.BufferReader(self.bytes())
        )  # pq.read_table would import pandas, half a second


def shards(folder: Path, suffix: str = ".parquet") -> list[Shard]:
    """The shards of a folder that end in `suffix`, in order."""
    files = Manifest.read(folder).files()
    return [
        Shard(folder / name, file.rows, file.sha256)
        for name, file in files
        if name.endswith(suffix)
    ]


def check_folder(folder: Path) -> None:
    """Raise DamagedShard where a file of a folder is missing or has other bytes than its manifest
    promises.
    """
    for name, file in Manifest.read(folder).files():
        Shard(folder / name, file.rows, file.sha256).check()


def tables(folder: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The Parquet shards of a folder, one after another."""
    for shard in shards(folder):
        yield shard.table(columns)


def arrow_schema(columns: Mapping[str, str]) -> pa.Schema:
    """An Arrow schema from a table of specs/document.py."""
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])


def write_table(
    rows: Sequence[Mapping[str, object]], columns: Mapping[str, str], path: Path
) -> None:
    """Rows to Parquet; a key that is not a column is not written."""
    write_row_groups(
        [{name: [row.get(name) for row in rows] for name in columns}] if rows else (), columns, path
    )


def write_row_groups(
    parts: Iterable[Mapping[str, Sequence[object]]], columns: Mapping[str, str], path: Path
) -> int:
    """Columns to Parquet, a row group for each part, null where a part has no such column; the
    number of rows.

    One declared schema, zstd, page checksums, no clock and no path inside.
    """
    shape, rows = arrow_schema(columns), 0
    settings = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True}
    with attach_filename(path), pq.ParquetWriter(path, shape, **settings) as writer:
        for part in parts:
            size = len(next(iter(part.values())))
            arrays = [
                pa.array(part.get(field.name) or [None] * size, field.type) for field in shape
            ]
            writer.write_table(pa.Table.from_arrays(arrays, schema=shape))
            rows += size
    return rows
