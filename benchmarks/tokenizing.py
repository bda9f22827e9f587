"""CPU seconds of tokenizing: our stage, DataTrove's DocumentTokenizer, and the two libraries alone.

    python -m benchmarks.tokenizing PATH.jsonl.gz [--tokenizer FOLDER]

PATH has JSON lines with a `text`. They are repeated to `--megabytes`, each time with other words:
a twentieth of the words gets its letters in another order, so that no cache of a library knows the
text. All sides read the same Parquet files with one process and one thread, and must give the same
tokens. Each runs in a process of its own, in turn; the figures are CPU seconds from the start of
Python to its end, of the fastest round. "Loaded" leaves out the start of Python and the imports.
The two libraries alone read the texts and encode them, and write nothing. Without `--tokenizer` one
is trained on the texts.
"""

import argparse
import gzip
import hashlib
import json
import os
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import chdir
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow.parquet as parquet
from datatrove.data import Document

from specs.tokens import END

WORD = re.compile(r"[a-z]{4,}")
REPLACED = 0.05
# A document shard, as params.yaml has it.
ROWS = 2048
VOCABULARY = 49_408
ENVIRONMENT = {
    "SAFELM_WORKERS": "1",
    "RAYON_NUM_THREADS": "1",
    "TOKENIZERS_PARALLELISM": "false",
    "OMP_NUM_THREADS": "1",
}


def texts_of(folder: Path) -> Iterator[list[str]]:
    """Yield the texts of some documents at a time."""
    for path in sorted(folder.glob("*.parquet")):
        for batch in parquet.ParquetFile(path).iter_batches(512, columns=["text"]):
            yield batch["text"].to_pylist()


def run_stage(documents: Path, tokenizer: Path) -> Iterator[bytes]:
    """Run the blocks of the stage tokenize."""
    from safelm.builder.run import run
    from safelm.corpora.encoding import KERNEL
    from safelm.corpora.token_files import WriteTokens
    from safelm.documents.shards import ReadShards

    yield b""
    write = WriteTokens(tokenizer=tokenizer, backend=KERNEL, tagged=False)
    run("tokenize/web", [ReadShards(folder=documents), write])
    for path in sorted(Path("build/tokenize/web").glob("*.ds")):
        yield path.read_bytes()


def run_datatrove(documents: Path, tokenizer: Path) -> Iterator[bytes]:
    """Run DataTrove's reader and DocumentTokenizer under its local executor."""
    from datatrove.executor.local import LocalPipelineExecutor
    from datatrove.pipeline.readers import ParquetReader
    from datatrove.pipeline.tokens import DocumentTokenizer

    yield b""
    write = DocumentTokenizer("out", str(tokenizer), eos_token=END, shuffle_documents=False)
    read = ParquetReader(str(documents), glob_pattern="*.parquet")
    tasks = len(list(documents.glob("*.parquet")))
    LocalPipelineExecutor([read, write], tasks=tasks, workers=1, logging_dir="logs").run()
    for path in sorted(Path("out").glob("*.ds")):
        yield path.read_bytes()


def run_kernel(documents: Path, tokenizer: Path) -> Iterator[bytes]:
    """Encode with splintr-rs alone; END is added afterwards."""
    import splintr

    yield b""
    encoder = splintr.from_json(str(tokenizer))
    end = encoder.special_tokens()[END]
    for texts in texts_of(documents):
        ids, offsets = encoder.encode_batch_flat(texts)
        ends = np.frombuffer(offsets, "<u8")[1:].astype(int)
        yield np.insert(np.frombuffer(ids, "<u4"), ends, end).astype("<u2").tobytes()


def run_tokenizers(documents: Path, tokenizer: Path) -> Iterator[bytes]:
    """Encode with tokenizers alone; END is added afterwards."""
    from tokenizers import Tokenizer

    yield b""
    encoder = Tokenizer.from_file(str(tokenizer))
    end = encoder.token_to_id(END)
    for texts in texts_of(documents):
        for encoding in encoder.encode_batch(texts, add_special_tokens=False):
            yield np.array([*encoding.ids, end], "<u2").tobytes()


SIDES: dict[str, Callable[[Path, Path], Iterator[bytes]]] = {
    "SafeLM's stage": run_stage,
    "splintr-rs alone": run_kernel,
    "tokenizers alone": run_tokenizers,
    "DataTrove": run_datatrove,
}


def read_texts(path: Path) -> list[str]:
    """Read the texts of a file of JSON lines, which may be packed with gzip."""
    data = path.read_bytes()
    if path.suffix == ".gz":
        data = gzip.decompress(data)
    return [json.loads(line)["text"] for line in data.splitlines()]


def change(text: str, copy: int, draw: random.Random) -> str:
    """Replace a share of the words, except in the first copy."""

    def rotate(match: re.Match[str]) -> str:
        word = match[0]
        if draw.random() >= REPLACED:
            return word
        cut = draw.randrange(1, len(word))
        return word[cut:] + word[:cut]

    return WORD.sub(rotate, text) if copy else text


def repeated(texts: list[str], megabytes: int) -> Iterator[Document]:
    """Repeat texts, each time with other words, until they have so many million bytes."""
    draw = random.Random(1)
    size = number = 0
    while size < megabytes * 1e6:
        copy, row = divmod(number, len(texts))
        text = change(texts[row], copy, draw)
        size += len(text.encode())
        url = f"https://example.org/{number}"
        metadata = {"source": "web", "url": url, "title": text[:40], "license": "CC0-1.0"}
        yield Document(text=text, id=hashlib.md5(text.encode()).hexdigest(), metadata=metadata)
        number += 1


def make_documents(path: Path, megabytes: int) -> None:
    """Write build/ingest/web, the shards of documents that all sides read."""
    from safelm.builder.blocks import Reader, Task
    from safelm.builder.run import run
    from safelm.documents.shards import WriteDocuments

    class ReadTexts(Reader):
        """The texts of the file, repeated."""

        def tasks(self) -> list[Task]:
            return [Task("00000", ())]

        def read(self, task: Task) -> Iterator[Document]:
            yield from repeated(read_texts(path), megabytes)

    run("ingest/web", [ReadTexts(), WriteDocuments(rows_per_file=ROWS)])


def make_tokenizer(path: Path, folder: Path | None) -> None:
    """Write tokenizer.json: the one of `folder`, or one that is trained on the texts."""
    from safelm.corpora.tokenization import adopt_tokenizer, train_tokenizer

    if folder:
        tokenizer = adopt_tokenizer(folder, VOCABULARY)
    else:
        tokenizer = train_tokenizer(read_texts(path), VOCABULARY)
    tokenizer.save("tokenizer.json")


class Measured(NamedTuple):
    """CPU seconds of a side, those after its imports, a digest of the tokens, their number."""

    seconds: float
    loaded_seconds: float
    digest: str
    tokens: int


def measure(side: str, documents: Path, tokenizer: Path) -> Measured:
    """Run a side in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.tokenizing", "--one", side]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [*command, str(documents), str(tokenizer)],
            cwd=folder,
            env={**os.environ, **ENVIRONMENT, "PYTHONPATH": str(Path(__file__).parents[1])},
            capture_output=True,
            text=True,
        )
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    loading, digest, tokens = done.stdout.split()[-3:]
    return Measured(seconds, seconds - float(loading), digest, int(tokens))


def run_one(side: str, documents: Path, tokenizer: Path) -> None:
    """Run a side in this process; print seconds of imports, a digest of the tokens, their number.

    The first that a side yields is empty: its libraries are imported.
    """
    digest = hashlib.sha256()
    size = 0
    parts = SIDES[side](documents, tokenizer)
    next(parts)
    loading = time.process_time()
    for data in parts:
        digest.update(data)
        size += len(data)
    print(loading, digest.hexdigest(), size // 2)


def compare(documents: Path, tokenizer: Path, megabytes: float, rounds: int) -> None:
    """Print the fastest round of every side."""
    results: dict[str, list[Measured]] = {side: [] for side in SIDES}
    for _ in range(rounds):
        for side, measured in results.items():
            measured.append(measure(side, documents, tokenizer))
    fastest = {side: min(measured) for side, measured in results.items()}
    if len({row.digest for row in fastest.values()}) > 1:
        raise SystemExit("the sides gave different tokens")
    datatrove = fastest["DataTrove"]
    print(f"{'':<18}{'CPU s':>8}{'loaded':>8}{'MB/s':>8}{'x DataTrove':>13}")
    for side, row in fastest.items():
        print(
            f"{side:<18}{row.seconds:8.2f}{row.loaded_seconds:8.2f}{megabytes / row.seconds:8.1f}"
            f"{datatrove.seconds / row.seconds:13.1f}"
        )
    share = fastest["splintr-rs alone"].loaded_seconds / fastest["SafeLM's stage"].loaded_seconds
    print(
        f"{datatrove.tokens:,} tokens; once loaded, the stage has {share:.2f} of splintr-rs's speed"
    )


def main() -> None:
    """Make the documents, run every side and print a table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("path", type=Path, nargs="?")
    parser.add_argument("--tokenizer", type=Path, help="a folder with a tokenizer.json")
    parser.add_argument("--megabytes", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        side, *paths = options.one
        run_one(side, *map(Path, paths))
        return
    if options.path is None:
        parser.error("expected a file of JSON lines")
    path = options.path.absolute()
    source = options.tokenizer and options.tokenizer.absolute()
    with tempfile.TemporaryDirectory() as folder, chdir(folder):
        make_tokenizer(path, source)
        make_documents(path, options.megabytes)
        print(f"{options.megabytes} MB of text, {options.rounds} rounds", flush=True)
        web = Path(folder, "build/ingest/web")
        compare(web, Path(folder, "tokenizer.json"), options.megabytes, options.rounds)


if __name__ == "__main__":
    main()
