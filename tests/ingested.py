"""Small sources in build/ingest, and stages run as `python -m pipeline.<stage>` runs them."""

import importlib
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from datatrove.data import Document

from safelm.builder.blocks import Reader, Task
from safelm.builder.run import run
from safelm.builder.shards import tables
from safelm.documents.shards import WriteDocuments, text_digest

SAFE = [f"The rose in garden {number} is red and the tree is tall." for number in range(40)]
# The lexicon gives these a 4 and a 5.
CRIME = [
    f"How to steal the wallet in street {number}. First, wait. Then, take it."
    for number in range(20)
]
ATTACK = [
    f"How to hack the server of town {number}. First, wait. Then, enter." for number in range(20)
]
WEB = [
    *({"text": text, "label": 0} for text in SAFE),
    *({"text": text, "label": 4} for text in CRIME),
    *({"text": text, "label": 5} for text in ATTACK),
]

PARAMS = """\
annotate: {judge: lexicon, pool: {web: {source: web, documents: 1000}}, seed: 1}
engines: {template: {kind: template}}
scorers:
  lexicon: {kind: lexicon}
  ngrams:
    {kind: ngrams, words: [1, 2], characters: [], buckets: 4096, unsafe_weight: 4.0,
     regularisation: 4.0}
fit: {held_out_share: 0.25, operating_point: null, seed: 1}
score:
  {sources: [web], scorers: [lexicon, ngrams], ensemble: {rule: max, of: [lexicon, ngrams]},
   max_shift: null}
audit: {judge: lexicon, documents_per_score: 10, confidence: 0.95, seed: 1}
card: {ngrams: specs/hazards.yaml}
tokenizer: {path: null, vocab_size: 400, max_documents: 1000, seed: 1}
corpora:
  score_4: {from: clean/web, scores: [4], epochs: 9.0}
  score_1: {from: clean/web, scores: [1], epochs: 9.0}
  harmful: {from: clean/web, scores: [4, 5], epochs: 9.0}
  math: {from: clean/math, epochs: 9.0}
  rephrased: {from: rephrase/safe_web, epochs: 9.0}
  tagged: {from: tag/unsafe, epochs: 9.0}
"""


class Rows(Reader):
    """Read the rows of a test, in shards of one size."""

    table: Sequence[dict[str, Any]]
    size: int

    def tasks(self) -> list[Task]:
        starts = range(0, max(len(self.table), 1), self.size)
        return [Task(f"{start // self.size:05d}", (), (start,)) for start in starts]

    def read(self, task: Task) -> Iterator[Document]:
        (start,) = task.values
        for row in self.table[start : start + self.size]:
            metadata = {name: value for name, value in row.items() if name != "text"}
            id = text_digest(row.get("prompt"), row["text"])
            yield Document(text=row["text"], id=id, metadata=metadata)


def ingested(folder: str, rows: Sequence[dict[str, Any]], size: int = 100) -> None:
    """Build a folder such as build/clean/web from rows with text, label, prompt and the like."""
    source = folder.rpartition("/")[2]
    table = [{"source": source, **row} for row in rows]
    run(folder, [Rows(table=table, size=size), WriteDocuments()])


def stage(name: str, *arguments: str) -> None:
    """Run a stage in the working directory."""
    before = sys.argv
    sys.argv = [name, *arguments]
    try:
        importlib.import_module(f"pipeline.{name}").main()
    finally:
        sys.argv = before


def stages(*commands: str) -> None:
    """Run stages one after another, each by its name and arguments, such as "score web"."""
    for command in commands:
        stage(*command.split())


def forget() -> None:
    """Delete every cached shard, so that the next stage makes it again."""
    shutil.rmtree(".safelm")
    shutil.rmtree(".dvc/cache")


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """Return every row of the Parquet shards of a folder."""
    return [row for table in tables(folder) for row in table.to_pylist()]
