"""Speed from a source through a filter into shards, beside DataTrove's own blocks and polars.

    python -m benchmarks.reading PATH.jsonl.gz

PATH has JSON lines with a `text`, packed or not; they are repeated to a useful size. All three read
the same files, keep the same documents, and write Parquet with zstd at level 3 from one process;
polars has one thread. Each runs in a process of its own, in turn. The figures are CPU seconds of
the fastest round, so that a busy machine counts less.
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
from safelm.ingestion.ingest import READERS

# Characters of the shortest document that is kept.
MIN_CHARACTERS = 500
SOURCE = {
    "source": "web",
    "license": "CC0-1.0",
    "files": "*",
    "text": "text",
    "max_line_bytes": 1 << 24,
    "max_document_bytes": 10 << 20,
    "max_expansion_ratio": 200,
}
COLUMNS = ("id", "text", "url", "title", "license")
TABLE = dict.fromkeys(COLUMNS, "string")
INPUTS = ("jsonl.gz", "jsonl.zst", "parquet", "shards")
ENVIRONMENT = {
    "POLARS_MAX_THREADS": "1",
    "SAFELM_WORKERS": "1",
    "OMP_NUM_THREADS": "1",
    "PYTHONHASHSEED": "0",
}


class DropShort(Block):
    """Documents of at least `characters` characters."""

    type: ClassVar[str] = "filter"
    name: ClassVar[str] = "long enough"
    characters: int = MIN_CHARACTERS

    def process(self, document: Document) -> Iterator[Document]:
        """Drop the document or pass it on."""
        if len(document.text) < self.characters:
            self.drop("too_short")
        else:
            yield document


def run_safelm(folder: Path, kind: str) -> None:
    """Run SafeLM: checked, accounted for, with a ledger, a digest as id and a manifest."""
    if kind == "shards":
        read: Block = ReadShards(folder=folder)
    else:
        read = READERS[kind.partition(".")[0]](path=folder, **SOURCE)
    run("ingest/web", [read, DropShort(), WriteDocuments()])


def run_datatrove(folder: Path, kind: str) -> None:
    """Run DataTrove's reader, filter and writer under its local executor."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.filters import LambdaFilter
    from datatrove.pipeline.readers import JsonlReader, ParquetReader
    from datatrove.pipeline.writers.parquet import ParquetWriter

    if "jsonl" in kind:
        read = JsonlReader(str(folder), glob_pattern=f"*.{kind}")
        columns = arrow_schema(TABLE)
    else:
        read = ParquetReader(str(folder), glob_pattern="*.parquet")
        columns = parquet.read_schema(next(folder.glob("*.parquet")))
    keep = LambdaFilter(lambda document: len(document.text) >= MIN_CHARACTERS)
    write = ParquetWriter(
        str(Path("out").absolute()),
        compression="zstd",
        expand_metadata=True,
        schema=columns,
    )
    tasks = len(list(folder.glob("*.*")))
    logs = str(Path("logs").absolute())
    LocalPipelineExecutor([read, keep, write], tasks=tasks, workers=1, logging_dir=logs).run()


def run_polars(folder: Path, kind: str) -> None:
    """Run polars: scan, filter, sink, one file after another as the others do."""
    import polars

    Path("out").mkdir()
    for file in sorted(folder.glob("*.*")):
        if file.name == "manifest.json":
            continue
        frame = polars.scan_ndjson(file) if "jsonl" in kind else polars.scan_parquet(file)
        kept = frame.filter(polars.col("text").str.len_chars() >= MIN_CHARACTERS)
        target = Path("out") / f"{file.name}.parquet"
        kept.sink_parquet(target, compression="zstd", compression_level=3)


SIDES: dict[str, Callable[[Path, str], None]] = {
    "SafeLM": run_safelm,
    "DataTrove": run_datatrove,
    "polars": run_polars,
}


def read_rows(path: Path) -> list[dict[str, str]]:
    """Read a file of JSON lines; every row has every column."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    rows = []
    for line in data.splitlines():
        values = orjson.loads(line)
        rows.append({name: values.get(name) or "" for name in COLUMNS})
    return rows


def write_inputs(folder: Path, rows: list[dict[str, str]], files: int, copies: int) -> int:
    """Write the rows in every kind of input, and return how many there are.

    Each row is repeated `copies` times with another number.
    """
    import polars

    for kind in INPUTS[:3]:
        (folder / kind).mkdir(parents=True)
    packer = zstandard.ZstdCompressor(3, write_checksum=True)
    for number in range(files):
        part = []
        for copy in range(number, copies, files):
            for row in rows:
                text = f"{row['text']}\n{copy}"
                part.append({**row, "id": f"{row['id']}#{copy}", "text": text})
        data = b"".join(orjson.dumps(row) + b"\n" for row in part)
        (folder / f"jsonl.gz/{number}.jsonl.gz").write_bytes(gzip.compress(data, 6, mtime=0))
        (folder / f"jsonl.zst/{number}.jsonl.zst").write_bytes(packer.compress(data))
        table = folder / f"parquet/{number}.parquet"
        polars.DataFrame(part).write_parquet(table, compression_level=3)
    with chdir(folder):
        run("ingest/web", [READERS["parquet"](path=Path("parquet"), **SOURCE), WriteDocuments()])
    (folder / "build/ingest/web").rename(folder / "shards")
    return len(rows) * copies


def run_in_process(side: str, folder: Path, kind: str) -> dict[str, float]:
    """Measure one side in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as directory:
        command = [sys.executable, "-m", "benchmarks.reading", "--one", side, kind, str(folder)]
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, "PYTHONPATH": str(Path.cwd())},
            capture_output=True,
            text=True,
        )
        if done.returncode:
            raise SystemExit(done.stderr[-3000:])
        values: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return values


def measure(side: str, kind: str, folder: Path) -> None:
    """Run one side and print its cost as JSON; a few rows go first, for what is loaded lazily."""
    for size in ("small", "whole"):
        Path(size).mkdir()
        with chdir(size):
            before = resource.getrusage(resource.RUSAGE_SELF)
            began = time.perf_counter()
            SIDES[side](folder / size / kind, kind)
            wall = time.perf_counter() - began
            after = resource.getrusage(resource.RUSAGE_SELF)
    output = Path("whole/build/ingest/web" if side == "SafeLM" else "whole/out")
    files = list(output.glob("*.parquet"))
    status = Path("/proc/self/status").read_text()
    values = {
        "cpu": after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime,
        "wall": wall,
        "rows": sum(parquet.read_metadata(file).num_rows for file in files),
        "written": sum(file.stat().st_size for file in files) / 1e6,
        "memory": int(status.partition("VmHWM:")[2].split()[0]) / 1e3,
    }
    print(json.dumps(values))


def compare(kind: str, rows: int, folder: Path, sides: list[str], rounds: int) -> None:
    """Print the fastest round of each side."""
    best: dict[str, dict[str, float]] = {}
    for _ in range(rounds):
        for side in sides:
            values = run_in_process(side, folder, kind)
            if side not in best or values["cpu"] < best[side]["cpu"]:
                best[side] = values
    kept = {side: values["rows"] for side, values in best.items()}
    if len(set(kept.values())) > 1:
        raise SystemExit(f"{kind}: every side must keep the same documents (got {kept})")
    for side, values in best.items():
        cpu = values["cpu"]
        ratio = cpu / best["polars"]["cpu"] if "polars" in best else float("nan")
        print(
            f"{kind:11}{side:11}{cpu:8.2f}{values['wall']:8.2f}{rows / cpu:17,.0f}{ratio:10.2f}"
            f"{values['rows']:9,.0f}{values['written']:8.1f}{values['memory']:8.0f}",
            flush=True,
        )


def main() -> None:
    """Time every side on every kind of input, and print a table."""
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
        side, kind, folder = options.one
        measure(side, kind, Path(folder))
        return
    if options.path is None:
        parser.error("expected a file of JSON lines")
    os.environ.update(ENVIRONMENT)
    rows = read_rows(options.path)
    megabytes = sum(len(row["text"]) for row in rows) / 1e6
    copies = options.files * max(1, round(options.megabytes / megabytes / options.files))
    with tempfile.TemporaryDirectory() as folder:
        write_inputs(Path(folder, "small"), rows[:100], 1, 1)
        count = write_inputs(Path(folder, "whole"), rows, options.files, copies)
        print(
            f"{count:,} documents, {megabytes * copies:.0f} million characters, "
            f"{options.files} files"
        )
        print(
            f"{'':22}{'CPU s':>8}{'wall s':>8}{'rows/s per core':>17}{'/ polars':>10}"
            f"{'kept':>9}{'MB out':>8}{'RAM':>8}"
        )
        for kind in options.kinds:
            compare(kind, count, Path(folder), options.sides, options.rounds)


if __name__ == "__main__":
    main()
