"""Bombs: small files that become large, deep or many when they are read.

python -m tests.faults.bombs FOLDER     in a process of its own, whose peak memory is measured
"""

import gzip
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import zstandard

from safelm.ingestion.errors import SourceError
from specs.yaml_source import SpecError, YamlFile
from tests.reading import reader_of, reasons

MEGABYTE = 1 << 20
LIMITS = {
    "max_line_bytes": 16 * MEGABYTE,
    "max_document_bytes": 10 * MEGABYTE,
}  # those of params.yaml


def repeated(pack: Callable[[bytes], bytes], times: int) -> bytes:
    """Repeat a compressed member or frame of one megabyte."""
    return pack(bytes(MEGABYTE)) * times


def sparse(path: Path, size: int, start: bytes = b"") -> None:
    """Write a file of NULs that takes no room on the disk."""
    path.write_bytes(start)
    os.truncate(path, size)


def table(path: Path, **options: object) -> None:
    """Write a million rows that share one text of a megabyte, which does not compress."""
    text = np.random.default_rng(1).integers(32, 127, MEGABYTE, dtype=np.uint8).tobytes().decode()
    column = pa.DictionaryArray.from_arrays(
        pa.array(np.zeros(1_000_000, dtype=np.int32)), pa.array([text])
    )
    pq.write_table(pa.table({"text": column}), path, compression="none", **options)


def nested(path: Path) -> None:
    """Write a row whose other column is a list of ten million numbers."""
    pq.write_table(
        pa.table({"text": ["a"], "metadata": [np.zeros(10_000_000, dtype=np.int8)]}),
        path,
        compression="zstd",
    )


def columns(path: Path) -> None:
    """Write twenty thousand columns beside the text."""
    pq.write_table(
        pa.table({"text": ["a"], **{f"c{number}": [1] for number in range(20_000)}}), path
    )


def aliases(name: str) -> str:
    """Write ten aliases of ten aliases of ten …, in YAML."""
    lines = [f"{name}0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"{name}{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    return "\n".join(lines)


PAIRS = b", ".join(b'"k%d": 1' % number for number in range(1_000_000))
BOMBS: dict[str, tuple[str, str, Callable[[Path], object]]] = {
    "gzip, 1,000 to 1": (
        "jsonl",
        "a.gz",
        lambda path: path.write_bytes(gzip.compress(bytes(256 * MEGABYTE))),
    ),
    "gzip in members": (
        "jsonl",
        "a.gz",
        lambda path: path.write_bytes(repeated(gzip.compress, 512)),
    ),
    "gzip in gzip": (
        "jsonl",
        "a.gz",
        lambda path: path.write_bytes(gzip.compress(repeated(gzip.compress, 512))),
    ),
    "zstd": (
        "jsonl",
        "a.zst",
        lambda path: path.write_bytes(zstandard.compress(bytes(512 * MEGABYTE))),
    ),
    "zstd in frames": (
        "jsonl",
        "a.zst",
        lambda path: path.write_bytes(repeated(zstandard.compress, 512)),
    ),
    "WET": ("wet", "a.wet.gz", lambda path: path.write_bytes(repeated(gzip.compress, 512))),
    "a page": (
        "html",
        "a.html.gz",
        lambda path: path.write_bytes(gzip.compress(bytes(256 * MEGABYTE))),
    ),
    "a line of half a gigabyte": (
        "jsonl",
        "a.jsonl",
        lambda path: sparse(path, 1 << 29, b'{"text": "'),
    ),
    "a record of half a gigabyte": (
        "wet",
        "a.wet",
        lambda path: sparse(path, 1 << 29, b"WARC/1.0\r\n"),
    ),
    "a page of half a gigabyte": ("html", "a.html", lambda path: sparse(path, 1 << 29, b"<html>")),
    "a depth of 100,000": (
        "jsonl",
        "a.jsonl",
        lambda path: path.write_bytes(b'{"text":' * 100_000),
    ),
    "a million keys": ("jsonl", "a.jsonl", lambda path: path.write_bytes(b"{" + PAIRS + b"}")),
    "a million rows of one text": ("parquet", "a.parquet", table),
    "a column of ten million numbers": ("parquet", "a.parquet", nested),
    "20,000 columns": ("parquet", "a.parquet", columns),
    "YAML, params.yaml": ("yaml", "params.yaml", lambda path: path.write_text(aliases("sources"))),
    "YAML, a data set": (
        "huggingface",
        "set.yaml",
        lambda path: path.write_text(aliases("dataset")),
    ),
    "YAML, a depth of 100,000": (
        "yaml",
        "params.yaml",
        lambda path: path.write_text("a: " + "[" * 100_000),
    ),
}


def explode(kind: str, path: Path) -> str:
    """Read a bomb; return the error, or the documents and reasons."""
    try:
        if kind == "yaml":
            return str(YamlFile(path).values)
        reader = reader_of(kind, path, **LIMITS)
        documents = 0
        for task in reader.tasks():
            for _ in reader.read(task):  # a list of them would take memory
                documents += 1
    except (SourceError, SpecError) as error:
        return str(error)
    return f"{documents} documents {reasons(reader)}"


def peak() -> float:
    """Return the peak memory since the last reset, in megabytes."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    """Write each bomb in a child process and read it in this one; print a line of JSON for each."""
    folder = Path(sys.argv[1])
    for name, (kind, file, write) in BOMBS.items():
        path = folder / file
        if (child := os.fork()) == 0:
            write(path)
            os._exit(0)
        os.waitpid(child, 0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
        before = resource.getrusage(resource.RUSAGE_SELF).ru_utime
        found = explode(kind, path)
        seconds = resource.getrusage(resource.RUSAGE_SELF).ru_utime - before
        print(
            json.dumps({"name": name, "found": found, "megabytes": peak(), "seconds": seconds}),
            flush=True,
        )
        path.unlink()


if __name__ == "__main__":
    main()
