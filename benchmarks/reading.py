"""How fast documents pass from a source through a filter into shards, beside DataTrove's own blocks and beside polars.

    python -m benchmarks.reading PATH.jsonl.gz

PATH: JSON lines with a `text`, packed or not, repeated to a useful size. All three read the same files, keep the same
documents, and write Parquet with zstd at level 3 from one process; polars has one thread. Each runs in a process of its
own, in turn; the figures are CPU seconds of the fastest round, so that a busy machine counts less.
"""

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

from safelm.blocks import Block, ReadShards, WriteDocuments
from safelm.executor import run
from safelm.reading.readers import READERS
from safelm.shards import schema

LONG = 500  # characters of the shortest document that is kept
LIMITS = {"line_bytes": 1 << 24, "document_bytes": 10 << 20, "expansion": 200}
SOURCE = {"files": "*", "source": "web", "text": "text", "prompt": None, "license": "CC0-1.0", **LIMITS}
COLUMNS = ("id", "text", "url", "title", "license")
TABLE = dict.fromkeys(COLUMNS, "string")
INPUTS = ("jsonl.gz", "jsonl.zst", "parquet", "shards")


@dataclass(kw_only=True, eq=False, repr=False)
class LongEnough(Block):
    """Drop short documents."""

    type: ClassVar[str] = "filter"
    name: ClassVar[str] = "long enough"
    characters: int = LONG

    def each(self, document: Document) -> Iterator[Document]:
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
    read = JsonlReader(str(folder), **options) if "jsonl" in kind else ParquetReader(str(folder), glob_pattern="*.parquet")
    keep = LambdaFilter(lambda document: len(document.text) >= LONG)
    columns = parquet.read_schema(next(folder.glob("*.parquet"))) if "jsonl" not in kind else schema(TABLE)
    write = ParquetWriter("out", compression="zstd", expand_metadata=True, schema=columns)
    tasks = len(list(folder.glob("*.*")))
    LocalPipelineExecutor([read, keep, write], tasks=tasks, workers=1, logging_dir="logs").run()


def polarses(folder: Path, kind: str) -> None:
    """polars: scan, filter, sink, one file after another as the others."""
    import polars

    Path("out").mkdir()
    for file in sorted(folder.glob("*.*")):
        if file.name == "manifest.json":
            continue
        frame = polars.scan_ndjson(file) if "jsonl" in kind else polars.scan_parquet(file)
        kept = frame.filter(polars.col("text").str.len_chars() >= LONG)
        kept.sink_parquet(Path("out") / f"{file.name}.parquet", compression="zstd", compression_level=3)


SIDES: dict[str, Callable[[Path, str], None]] = {"SafeLM": ours, "DataTrove": datatroves, "polars": polarses}
ENVIRONMENT = {"POLARS_MAX_THREADS": "1", "SAFELM_WORKERS": "1", "OMP_NUM_THREADS": "1", "PYTHONHASHSEED": "0"}


def inputs(path: Path, folder: Path, megabytes: int, files: int) -> tuple[int, int]:
    """The source in every form, `files` files each; how many rows and characters there are."""
    import polars

    opened = gzip.open(path, "rb") if path.suffix == ".gz" else path.open("rb")
    with opened as lines:
        found = [orjson.loads(line) for line in lines]
    rows = [{name: row.get(name) or "" for name in COLUMNS} for row in found]  # every column in every row
    copies = files * max(1, round(megabytes * 1e6 / sum(len(row["text"]) for row in rows) / files))
    size = count = 0
    for number in range(files):
        part = []
        for copy in range(number, copies, files):
            part += [{**row, "id": f"{row['id']}#{copy}", "text": f"{row['text']}\n{copy}"} for row in rows]
        count, size = count + len(part), size + sum(len(row["text"]) for row in part)
        data = b"".join(orjson.dumps(row) + b"\n" for row in part)
        for kind in INPUTS[:3]:
            (folder / kind).mkdir(exist_ok=True)
        (folder / "jsonl.gz" / f"{number}.jsonl.gz").write_bytes(gzip.compress(data, 6, mtime=0))
        (folder / "jsonl.zst" / f"{number}.jsonl.zst").write_bytes(
            zstandard.ZstdCompressor(3, write_checksum=True).compress(data)
        )
        polars.DataFrame(part).write_parquet(folder / "parquet" / f"{number}.parquet", compression="zstd", compression_level=3)
    (folder / "made").mkdir()
    os.environ.update(ENVIRONMENT)
    with chdir(folder / "made"):
        run("ingest/web", [READERS["parquet"](path=folder / "parquet", **SOURCE), WriteDocuments()])
    (folder / "made/build/ingest/web").rename(folder / "shards")
    return count, size


def measured(side: str, folder: Path, kind: str) -> dict[str, float]:
    """CPU and wall seconds of one side in a process of its own, without its start."""
    with tempfile.TemporaryDirectory(dir=folder.parent) as there:
        command = [sys.executable, "-m", "benchmarks.reading", "--one", side, kind, str(folder / kind)]
        environment = {**os.environ, **ENVIRONMENT, "PYTHONPATH": str(Path.cwd())}
        done = subprocess.run(command, cwd=there, env=environment, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return values


def one(side: str, kind: str, folder: Path) -> None:
    """What the process of one side does: the work, and a line of what it cost and what it kept."""
    warm = resource.getrusage(resource.RUSAGE_SELF)
    began = time.perf_counter()
    SIDES[side](folder, kind)
    wall = time.perf_counter() - began
    used = resource.getrusage(resource.RUSAGE_SELF)
    cpu = used.ru_utime + used.ru_stime - warm.ru_utime - warm.ru_stime
    out = Path("build/ingest/web") if side == "SafeLM" else Path("out")
    rows = sum(parquet.read_metadata(file).num_rows for file in out.glob("*.parquet"))
    size = sum(file.stat().st_size for file in out.glob("*.parquet"))
    memory = used.ru_maxrss / 1024
    print(json.dumps({"cpu": cpu, "wall": wall, "rows": rows, "megabytes": size / 1e6, "memory": memory}))


def main() -> None:
    """Time every side over every form of the source, and print a table with each beside polars."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--megabytes", type=int, default=200, help="characters of text, in millions")
    parser.add_argument("--files", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--kinds", nargs="*", default=INPUTS)
    parser.add_argument("--sides", nargs="*", default=list(SIDES))
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        side, kind, folder = options.one
        one(side, kind, Path(folder))
        return
    with tempfile.TemporaryDirectory() as there:
        folder = Path(there, "inputs")
        folder.mkdir()
        rows, size = inputs(options.path.absolute(), folder, options.megabytes, options.files)
        print(f"{rows:,} documents, {size / 1e6:.0f} million characters, {options.files} files", flush=True)
        print(f"{'':28}{'CPU s':>8}{'wall s':>8}{'rows/s per core':>17}{'/ polars':>10}{'kept':>9}{'MB out':>8}{'MB RSS':>8}")
        for kind in options.kinds:
            tries = [{side: measured(side, folder, kind) for side in options.sides} for _ in range(options.rounds)]
            best = {side: min((run[side] for run in tries), key=lambda values: values["cpu"]) for side in options.sides}
            for side, found in best.items():
                ratio = found["cpu"] / best["polars"]["cpu"] if "polars" in best else float("nan")
                print(
                    f"{kind:12}{side:16}{found['cpu']:8.2f}{found['wall']:8.2f}{rows / found['cpu']:17,.0f}{ratio:10.2f}"
                    f"{found['rows']:9,.0f}{found['megabytes']:8.1f}{found['memory']:8.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
