"""How fast documents pass from a source through a filter into shards, beside DataTrove's own blocks
and beside polars.

    python -m benchmarks.reading PATH.jsonl.gz

PATH: JSON lines with a `text`, packed or not, repeated to a useful size. All three read the same
files, keep the same documents, and write Parquet with zstd at level 3 from one process; polars has
one thread. Each runs in a process of its own, in turn; the figures are CPU seconds of the fastest
round, so that a busy machine counts less."""

import argparse
import gzip
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import orjson
import pyarrow.parquet as parquet
import zstandard
from datatrove.data import Document

from safelm.builder.blocks import Block
from safelm.builder.run import run
from safelm.builder.shards import arrow_schema
from safelm.documents.shards import ReadShards, WriteDocuments
from safelm.ingestion.registry import READERS

LONG = 500  # characters of the shortest document that is kept
LIMITS = {"max_line_bytes": 1 << 24, "max_document_bytes": 10 << 20, "max_expansion_ratio": 200}
SOURCE = {
    "files": "*",
    "source": "web",
    "text": "text",
    "prompt": None,
    "license": "CC0-1.0",
    **LIMITS,
}
COLUMNS = ("id", "text", "url", "title", "license")
TABLE = dict.fromkeys(COLUMNS, "string")
INPUTS = ("jsonl.gz", "jsonl.zst", "parquet", "shards")


@dataclass(kw_only=True, eq=False, repr=False)
class LongEnough(Block):
    """Drop short documents."""

    type: ClassVar[str] = "filter"
    name: ClassVar[str] = "long enough"
    characters: int = LONG

    def process(self, document: Document) -> Iterator[Document]:
        """Drop or pass on."""
        if len(document.text) < self.characters:
            self.drop("too_short")
        else:
            yield document


def ours(folder: Path, kind: str) -> None:
    """SafeLM: checked, accounted for, with a ledger, a digest as id and a manifest."""
    if kind == "shards":
        read: Block = ReadShards(folder=folder)
    else:
        read = READERS[kind.partition(".")[0]](path=folder, **SOURCE)
    run("ingest/web", [read, LongEnough(), WriteDocuments()])


def datatroves(folder: Path, kind: str) -> None:
    """DataTrove's reader, filter and writer under its local executor."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.filters import LambdaFilter
    from datatrove.pipeline.readers import JsonlReader, ParquetReader
    from datatrove.pipeline.writers.parquet import ParquetWriter

    options = {"glob_pattern": f"*.{kind}"}
    read = (
        JsonlReader(str(folder), **options)
        if "jsonl" in kind
        else ParquetReader(str(folder), glob_pattern="*.parquet")
    )
    keep = LambdaFilter(lambda document: len(document.text) >= LONG)
    columns = (
        parquet.read_schema(next(folder.glob("*.parquet")))
        if "jsonl" not in kind
        else arrow_schema(TABLE)
    )
    write = ParquetWriter(
        str(Path("out").absolute()), compression="zstd", expand_metadata=True, schema=columns
    )
    tasks = len(list(folder.glob("*.*")))
    LocalPipelineExecutor(
        [read, keep, write], tasks=tasks, workers=1, logging_dir=str(Path("logs").absolute())
    ).run()


def polarses(folder: Path, kind: str) -> None:
    """polars: scan, filter, sink, one file after another as the others."""
    import polars

    Path("out").mkdir()
    for file in sorted(folder.glob("*.*")):
        if file.name == "manifest.json":
            continue
        frame = polars.scan_ndjson(file) if "jsonl" in kind else polars.scan_parquet(file)
        kept = frame.filter(polars.col("text").str.len_chars() >= LONG)
        kept.sink_parquet(
            Path("out") / f"{file.name}.parquet", compression="zstd", compression_level=3
        )


SIDES: dict[str, Callable[[Path, str], None]] = {
    "SafeLM": ours,
    "DataTrove": datatroves,
    "polars": polarses,
}
ENVIRONMENT = {
    "POLARS_MAX_THREADS": "1",
    "SAFELM_WORKERS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


def rows_of(path: Path) -> list[dict[str, str]]:
    """The documents of a file of JSON lines, every column in every row."""
    data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    found = [orjson.loads(line) for line in data.splitlines()]
    return [{name: row.get(name) or "" for name in COLUMNS} for row in found]


def write(folder: Path, rows: list[dict[str, str]], files: int, copies: int) -> int:
    """The rows, each `copies` times with another number, in every form of a source; how many there
    are.
    """
    import polars

    for kind in INPUTS[:3]:
        (folder / kind).mkdir(parents=True)
    for number in range(files):
        numbers = range(number, copies, files)
        part = [
            {**row, "id": f"{row['id']}#{copy}", "text": f"{row['text']}\n{copy}"}
            for copy in numbers
            for row in rows
        ]
        data = b"".join(orjson.dumps(row) + b"\n" for row in part)
        zstd = zstandard.ZstdCompressor(3, write_checksum=True)
        (folder / f"jsonl.gz/{number}.jsonl.gz").write_bytes(gzip.compress(data, 6, mtime=0))
        (folder / f"jsonl.zst/{number}.jsonl.zst").write_bytes(zstd.compress(data))
        polars.DataFrame(part).write_parquet(
            folder / f"parquet/{number}.parquet", compression_level=3
        )
    with chdir(folder):
        run("ingest/web", [READERS["parquet"](path=Path("parquet"), **SOURCE), WriteDocuments()])
    (folder / "build/ingest/web").rename(folder / "shards")
    return len(rows) * copies


def measured(side: str, folder: Path, kind: str) -> dict[str, float]:
    """CPU and wall seconds of one side in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as there:
        command = [sys.executable, "-m", "benchmarks.reading", "--one", side, kind, str(folder)]
        environment = {**os.environ, "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(command, cwd=there, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return values


def one(side: str, kind: str, folder: Path) -> None:
    """What the process of one side does: a few rows, for what is loaded on first use, then the
    work; what that cost.
    """
    for size in ("small", "whole"):
        Path(size).mkdir()
        with chdir(size):
            before, began = resource.getrusage(resource.RUSAGE_SELF), time.perf_counter()
            SIDES[side](folder / size / kind, kind)
            wall, used = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_SELF)
    made = list(
        Path("whole/build/ingest/web" if side == "SafeLM" else "whole/out").glob("*.parquet")
    )
    values = {
        "cpu": used.ru_utime + used.ru_stime - before.ru_utime - before.ru_stime,
        "wall": wall,
        "rows": sum(parquet.read_metadata(file).num_rows for file in made),
        "written": sum(file.stat().st_size for file in made) / 1e6,
        "memory": int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
        / 1e3,
    }
    print(json.dumps(values))


def compare(kind: str, rows: int, folder: Path, sides: list[str], rounds: int) -> None:
    """A row of the table for each side: the fastest of its rounds."""
    tries = [{side: measured(side, folder, kind) for side in sides} for _ in range(rounds)]
    best = {
        side: min((found[side] for found in tries), key=lambda values: values["cpu"])
        for side in sides
    }
    kept = {side: found["rows"] for side, found in best.items()}
    if len(set(kept.values())) > 1:
        raise SystemExit(f"{kind}: every side must keep the same documents (got {kept})")
    for side, found in best.items():
        cpu, wall = found["cpu"], found["wall"]
        ratio = cpu / best["polars"]["cpu"] if "polars" in best else float("nan")
        print(
            f"{kind:11}{side:11}{cpu:8.2f}{wall:8.2f}{rows / cpu:17,.0f}{ratio:10.2f}"
            f"{found['rows']:9,.0f}{found['written']:8.1f}{found['memory']:8.0f}",
            flush=True,
        )


def main() -> None:
    """Time every side over every form of the source, and print a table with each beside polars."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument(
        "--megabytes", type=int, default=200, help="characters of text, in millions"
    )
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", default=INPUTS)
    parser.add_argument("--sides", nargs="*", default=list(SIDES))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        one(options.one[0], options.one[1], Path(options.one[2]))
        return
    os.environ.update(ENVIRONMENT)
    rows = rows_of(options.path)
    size = sum(len(row["text"]) for row in rows) / 1e6
    copies = options.files * max(1, round(options.megabytes / size / options.files))
    with tempfile.TemporaryDirectory() as there:
        write(Path(there, "small"), rows[:100], 1, 1)
        count = write(Path(there, "whole"), rows, options.files, copies)
        print(f"{count:,} documents, {size * copies:.0f} million characters, {options.files} files")
        print(
            f"{'':22}{'CPU s':>8}{'wall s':>8}{'rows/s per core':>17}{'/ polars':>10}{'kept':>9}{'MB out':>8}{'RAM':>8}"
        )
        for kind in options.kinds:
            compare(kind, count, Path(there), options.sides, options.rounds)


if __name__ == "__main__":
    main()
