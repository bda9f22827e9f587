"""Rows and files for the tests of the readers, and ways to read them."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from datatrove.data import Document
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from safelm.ingestion.base import ReadSource
from safelm.ingestion.ingest import READERS

VALUES: dict[str, Any] = {
    "source": "web",
    "license": "CC0-1.0",
    "max_line_bytes": 1 << 20,
    "max_document_bytes": 1 << 19,
    "max_expansion_ratio": 200,
}
TEXTS = [f"page {number} is about the garden" for number in range(40)]
ROWS = [json.dumps({"text": text}).encode() + b"\n" for text in TEXTS]


def reader_of(kind: str, path: Path, **values: Any) -> ReadSource:
    """Create a reader with the values of a source that a test does not give."""
    extractor = {"extractor": "trafilatura"} if kind in ("warc", "html") else {}
    return READERS[kind](path=path, **{**VALUES, **extractor, **values})


def read(kind: str, path: Path, **values: Any) -> tuple[list[Document], ReadSource]:
    """Read every document of a source; return them and the reader."""
    reader = reader_of(kind, path, **values)
    documents = []
    for task in reader.tasks():
        reader.begin(task, path.parent)
        documents += list(reader.run(None))
    return documents, reader


def read_bytes(
    tmp_path: Path, data: bytes, name: str = "a.jsonl", kind: str = "jsonl", **values: Any
) -> tuple[list[str], dict[str, int], ReadSource]:
    """Read a file with these bytes; return its texts, the reasons of other rows, and the reader."""
    (tmp_path / name).write_bytes(data)
    documents, reader = read(kind, tmp_path / name, **values)
    return [document.text for document in documents], reasons(reader), reader


def reasons(reader: ReadSource) -> dict[str, int]:
    """Count the rows that were dropped or quarantined, by reason."""
    return {**reader.dropped, **Counter(row["reason"] for row in reader.quarantined)}


# An offset in a file and the bytes to write there; the same ones in every run.
MUTATION = st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=6))
UNTIMED = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
