"""Valid files with random changes, read in a process of its own so that a crash is seen.

python -m tests.faults.fuzz FIRST COUNT     mutants FIRST to FIRST + COUNT of every kind
"""

import hashlib
import json
import random
import re
import signal
import sys
import tempfile
from pathlib import Path

import numpy as np

from safelm.builder.manifest import DamagedShard, Manifest
from safelm.builder.shards import Shard
from safelm.ingestion.errors import SourceError
from safelm.ingestion.extract import TextExtractor
from safelm.ingestion.html import ReadPages
from tests.faults.corpora import GZIP, PACKED, PLAIN, ROWS, TEXTS, WET, WHOLE, ZSTD, page, record
from tests.reading import reader_of

SECONDS = 10  # of CPU for a mutant; then the process is ended, as one that crashed
TAIL = 60  # at the very end a change cannot be told from a cut
HTTP = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n"
PAGES = b"".join(record(HTTP + page(f"Anna {n}").decode(), kind="response") for n in range(3))
FILE = {"suffix": ".parquet", "rows": 1, "bytes": 1, "md5": "0" * 32, "sha256": "0" * 64}
TASK = {"name": "00000", "key": "a", "files": [FILE], "ledger": {"rows_in": 1, "rows_out": 1}}
MANIFEST = json.dumps(
    {"format": 1, "stage": "ingest/web", "ledger": {}, "tasks": [TASK]}, indent=1
).encode()
INDEX = np.arange(1, 200, dtype="<u8").tobytes()

KINDS = {
    "jsonl": ("a.jsonl", WHOLE),
    "gzip": ("a.gz", GZIP),
    "zstd": ("a.zst", ZSTD.compress(WHOLE)),
    "parquet": ("a.parquet", PLAIN),
    "warc": ("a.warc", PAGES),
    "wet": ("a.wet", b"".join(WET)),
    "packed wet": ("a.wet.gz", b"".join(PACKED)),
    "index": ("a.ds.index", INDEX),
    "manifest": ("manifest.json", MANIFEST),
}
READER = {"gzip": "jsonl", "zstd": "jsonl", "packed wet": "wet"}


class Kept(TextExtractor):
    """An extractor that is kept for the next mutant."""

    def __exit__(self, *_: object) -> None:
        pass


def mutate(data: bytes, draw: random.Random) -> tuple[bytes, bool]:
    """Flip, replace, remove, insert or repeat some bytes.

    Returns the mutant, and whether it has one change that is not at the end.
    """
    changes = draw.choice((1, 1, 2, 5))
    changed, is_edit = bytearray(data), changes == 1
    for _ in range(changes):
        start, size = draw.randrange(len(changed) + 1), draw.choice((1, 1, 2, 8, 64))
        kind = draw.choice(("flip", "replace", "insert", "delete", "repeat", "cut"))
        is_edit &= kind in ("flip", "replace") and start < len(data) - TAIL - size
        part = changed[start : start + size]
        if kind == "flip" and part:
            changed[start] ^= 1 << draw.randrange(8)
        elif kind == "cut":
            del changed[start:]
        else:
            new = {
                "replace": draw.randbytes(len(part)),
                "insert": draw.randbytes(size) + part,
                "repeat": part * 2,
            }
            changed[start : start + size] = new.get(kind, b"")
    return bytes(changed), is_edit


def fault(kind: str, path: Path, data: bytes, is_edit: bool, extract: TextExtractor) -> str | None:
    """Return what is wrong with how a mutant was read."""
    if kind in ("index", "manifest"):
        shard = Shard(path, 1, hashlib.sha256(INDEX).hexdigest())
        try:
            manifest = shard.bytes() if kind == "index" else Manifest.read(path.parent)
        except DamagedShard:
            return None
        return None if isinstance(manifest, Manifest) or data == INDEX else "was taken for whole"
    reader = reader_of(READER.get(kind, kind), path)
    if isinstance(reader, ReadPages):
        reader.extract = extract
    texts = []
    try:
        for task in reader.tasks():
            reader.begin(task, path.parent)
            texts += [document.text for document in reader.run(None)]
    except SourceError:
        return None
    if bad := [
        row
        for row in reader.quarantined
        if not re.fullmatch("[0-9a-f]{64}", row["sha256"]) or row["offset"] < 0
    ]:
        return f"a row without a digest or a place: {bad[0]}"
    if kind == "jsonl" and data[:2] not in (
        b"\xff\xfe",
        b"\xfe\xff",
        b"\x1f\x8b",
        b"PK",
        b"BZ",
        b"7z",
    ):
        lost = {
            TEXTS[ROWS.index(line + b"\n")] for line in data.split(b"\n") if line + b"\n" in ROWS
        } - set(texts)
        return f"lost {lost}" if lost else None
    if kind in ("gzip", "zstd", "parquet") and is_edit and (strange := set(texts) - set(TEXTS)):
        return f"changed letters came out: {strange}"
    return None


def peak_memory() -> float:
    """Return the peak memory of this process in MB.

    Not by `getrusage`: on Linux a new program inherits the peak of the process that started it.
    """
    status = Path("/proc/self/status").read_text()
    (kilobytes,) = re.findall(r"VmHWM:\s+(\d+) kB", status)
    return int(kilobytes) / 1024


def main() -> None:
    """Print a line of JSON for each kind: the number of mutants, the faults, the peak memory."""
    first, count = map(int, sys.argv[1:])
    extract = Kept("trafilatura")
    with tempfile.TemporaryDirectory() as folder:
        for kind, (name, data) in KINDS.items():
            wrong = []
            for number in range(first, first + count):
                print(
                    kind, number, file=sys.stderr, flush=True
                )  # the last line names the mutant that ended the process
                mutant, is_edit = mutate(data, random.Random(f"{kind} {number}"))
                path = Path(folder, name)
                path.write_bytes(mutant)
                signal.setitimer(signal.ITIMER_PROF, SECONDS)
                try:
                    found = fault(kind, path, mutant, is_edit, extract)
                except Exception as error:
                    found = f"{type(error).__name__}: {error}"
                signal.setitimer(signal.ITIMER_PROF, 0)
                if found:
                    wrong.append(f"{number}: {found}"[:300])
            row = {"kind": kind, "mutants": count, "wrong": wrong, "megabytes": peak_memory()}
            print(json.dumps(row), flush=True)
    extract.stop()


if __name__ == "__main__":
    main()
