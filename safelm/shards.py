"""Shards on disk: a folder of files and the manifest that lists them; every read checks the digest."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from safelm.digest import MANIFEST, known_digest, remember_digest
from safelm.files import named, write_synced
from safelm.ledger import Ledger
from safelm.names import is_inside
from safelm.record import File, Record

FORMAT = 1
BATCH = 1024  # rows that are Python objects at a time


class DamagedShard(RuntimeError):
    """A file does not hold the bytes that its manifest promises."""


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
            raise DamagedShard(f"{self.path}: is missing; run `dvc checkout` or `dvc repro`") from error
        self._compare(got := hashlib.sha256(data).hexdigest())
        remember_digest(self.path, state, got)
        return data

    def check(self) -> None:
        """Raise DamagedShard unless the file has its digest; of large files little is in memory."""
        try:
            got = known_digest(self.path)
        except FileNotFoundError as error:
            raise DamagedShard(f"{self.path}: is missing; run `dvc checkout` or `dvc repro`") from error
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

    def parts(self) -> Iterator[pa.Table]:
        """The shard as small Arrow tables, one after another: less memory, and faster for it."""
        for batch in self._file().iter_batches(batch_size=BATCH, use_threads=False):
            yield pa.Table.from_batches([batch])

    def _file(self) -> pq.ParquetFile:
        # Never read with threads: one of Arrow's that lets go of these bytes while Python ends aborts the process, its
        # work done (apache/arrow#34314; 4 of 65 reads on a busy machine).
        return pq.ParquetFile(pa.BufferReader(self.bytes()))  # pq.read_table would import pandas, half a second


@dataclass(frozen=True)
class Manifest:
    """What a stage made: the records of its tasks in order, by task name; `made` of them by the run that gives it."""

    stage: str
    tasks: tuple[tuple[str, Record], ...]
    made: int = field(default=0, compare=False)

    @property
    def ledger(self) -> Ledger:
        """The ledger of the whole stage."""
        return Ledger.total(record.ledger for _, record in self.tasks)

    def files(self) -> Iterator[tuple[str, File]]:
        """Every file with its name in the folder."""
        for name, record in self.tasks:
            for file in record.files:
                yield name + file.suffix, file

    def write(self, folder: Path) -> None:
        """manifest.json: same inputs, same bytes."""
        tasks = [{"name": name, **asdict(record)} for name, record in self.tasks]
        values = {"format": FORMAT, "stage": self.stage, "ledger": asdict(self.ledger), "tasks": tasks}
        write_synced(folder / MANIFEST, json.dumps(values, indent=1, sort_keys=True).encode() + b"\n")

    @classmethod
    def parse(cls, data: bytes) -> "Manifest":
        """A manifest from its bytes."""
        values = json.loads(data)
        if values["format"] != FORMAT:
            raise DamagedShard(
                f"manifest of stage {values['stage']}: expected format {FORMAT} (got {values['format']})"
            )
        tasks = tuple((task.pop("name"), Record.load(task)) for task in values["tasks"])
        manifest = cls(values["stage"], tasks)
        for name, _ in manifest.files():
            if not is_inside(name):
                raise DamagedShard(f"manifest of stage {manifest.stage}: {name!r} is not a file of its folder")
        return manifest

    @classmethod
    def read(cls, folder: Path) -> "Manifest":
        """The manifest of a folder."""
        try:
            return cls.parse((folder / MANIFEST).read_bytes())
        except FileNotFoundError as error:
            raise DamagedShard(f"{folder}: has no {MANIFEST}; run `dvc repro` to build it") from error
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise DamagedShard(f"{folder / MANIFEST}: is damaged; `make verify REPAIR=1` makes it again") from error


def shards(folder: Path, suffix: str = ".parquet") -> list[Shard]:
    """The shards of a folder that end in `suffix`, in order."""
    files = Manifest.read(folder).files()
    return [Shard(folder / name, file.rows, file.sha256) for name, file in files if name.endswith(suffix)]


def check_folder(folder: Path) -> None:
    """Raise DamagedShard where a file of a folder is missing or has other bytes than its manifest promises."""
    for name, file in Manifest.read(folder).files():
        Shard(folder / name, file.rows, file.sha256).check()


def tables(folder: Path, columns: Sequence[str] | None = None) -> Iterator[pa.Table]:
    """The Parquet shards of a folder, one after another."""
    for shard in shards(folder):
        yield shard.table(columns)


def schema(columns: Mapping[str, str]) -> pa.Schema:
    """An Arrow schema from a table of specs/document.py."""
    return pa.schema([(name, pa.type_for_alias(kind)) for name, kind in columns.items()])


def write_table(rows: Sequence[Mapping[str, object]], columns: Mapping[str, str], path: Path) -> None:
    """Rows to Parquet; a key that is not a column is not written."""
    write_parts([{name: [row.get(name) for row in rows] for name in columns}] if rows else (), columns, path)


def write_parts(parts: Iterable[Mapping[str, Sequence[object]]], columns: Mapping[str, str], path: Path) -> int:
    """Columns to Parquet, a row group for each part, null where a part has no such column; the number of rows.

    One declared schema, zstd, page checksums, no clock and no path inside.
    """
    shape, rows = schema(columns), 0
    settings = {"compression": "zstd", "compression_level": 3, "write_page_checksum": True}
    with named(path), pq.ParquetWriter(path, shape, **settings) as writer:
        for part in parts:
            size = len(next(iter(part.values())))
            arrays = [pa.array(part.get(field.name) or [None] * size, field.type) for field in shape]
            writer.write_table(pa.Table.from_arrays(arrays, schema=shape))
            rows += size
    return rows


def text_digest(prompt: str | None, text: str) -> str:
    """The id of a document: 128 bits of the sha256 of its text (and of the request it answers, if it is a dialogue)."""
    content = text if prompt is None else f"{prompt}\x00{text}"
    return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:32]
