"""Corpora as data sets: folders by score, in the layout of the release of the paper."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from safelm.builder.shards import arrow_schema
from safelm.documents.shards import GROUP, ReadShards, read_documents
from specs.document import DOCUMENT

METADATA = arrow_schema({**DOCUMENT, "score": "int8", "score_hazard": "string"})
COLUMNS = arrow_schema({"folder": "string", "id": "string", "text": "string"})
# The first two columns of DOCUMENT are id and text.
ROW = COLUMNS.append(pa.field("metadata", pa.struct([*METADATA][2:])))


def write_corpus(folder: Path, origin: str, scores: Sequence[int] | None, ending: str) -> None:
    """Write the documents of build/<origin> as rows {id, text, metadata}, in folders by score.

    Args:
        origin: such as rephrase/safe_web.
        scores: those to publish of a source that was scored; None for every document.
        ending: of the names of the folders.
    """
    ds.write_dataset(
        _rows(read_documents(origin, scores), ending),
        folder,
        schema=ROW,
        format="parquet",
        partitioning=["folder"],
        basename_template="part-{i}.parquet",
        max_rows_per_file=100_000,  # some 300 MB of web pages
        # Row groups of one size, in the order of the rows: the same build gives the same bytes.
        min_rows_per_group=GROUP.rows,
        max_rows_per_group=GROUP.rows,
        use_threads=False,
    )


def _rows(reader: ReadShards, ending: str) -> Iterator[pa.RecordBatch]:
    for task in reader.tasks():
        rows = []
        for document in reader.read(task):
            row = {"id": document.id, "text": document.text, "metadata": document.metadata}
            score = document.metadata.get("score", document.metadata.get("score_before"))
            name = "all" if score is None else f"score_{score}"
            rows.append({**row, "folder": name + ending})
        yield pa.RecordBatch.from_pylist(rows, ROW)
