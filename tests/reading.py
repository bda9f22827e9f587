"""What the tests of the readers share: rows, files of them, and how they are read."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

from datatrove.data import Document
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from safelm.ingestion.base import ReadSource
from safelm.ingestion.registry import READERS

VALUES: dict[str, Any] = {
    "files": "*",
    "source": "web",
    "text": "text",
    "prompt": None,
    "license": "CC0-1.0",
    "max_line_bytes": 1 << 20,
    "max_document_bytes": 1 << 19,
    "max_expansion_ratio": 200,
}
TEXTS = [f"page {number} is about the garden" for number in range(40)]
ROWS = [json.dumps({"text": text}).encode() + b"\n" for text in TEXTS]


def read(kind: str, path: Path, **values: Any) -> tuple[list[Document], ReadSource]:
    """Every document of a source, and the reader with what it dropped and quarantined."""
    reader = READERS[kind](path=path, **{**VALUES, **values})
    documents = []
    for task in reader.tasks():
        reader.begin(task, path.parent)
        documents += list(reader.run(None))
    return documents, reader


def read_bytes(
    tmp_path: Path, data: bytes, name: str = "a.jsonl", kind: str = "jsonl", **values: Any
) -> Any:
    """The texts of a file with these bytes, how many rows went where, and the reader."""
    (tmp_path / name).write_bytes(data)
    documents, reader = read(kind, tmp_path / name, **values)
    return [document.text for document in documents], reasons(reader), reader


def reasons(reader: ReadSource) -> dict[str, int]:
    return {**reader.dropped, **Counter(row["reason"] for row in reader.quarantined)}


# Where to change a file, and to what; the same places every time.
MUTATION = st.tuples(st.integers(0, 10**6), st.binary(min_size=1, max_size=6))
UNTIMED = settings(
    max_examples=120,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
