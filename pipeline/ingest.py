"""ingest: read a source of params.yaml, drop exact duplicates and quarantine broken rows.

python -m pipeline.ingest web
"""

from pathlib import Path

from pipeline.arguments import StageParser
from safelm.documents.shards import WriteDocuments
from safelm.ingestion.child_safety import ChildSafety
from safelm.ingestion.duplicates import DropDuplicates
from safelm.ingestion.ingest import READERS, ingest
from specs.params import Params

# Keys of a source that are not for its reader.
NO_VALUES = {"reader", "path", "origin", "filters", "usage"}


def main() -> None:
    """Read a source into build/ingest/<source>."""
    name = StageParser("ingest", __doc__).parse_row("source", "sources")
    params = Params.read("sources", "ingest")
    source, limits = params.sources[name], params.ingest
    read = READERS[source.reader](
        source=name,
        path=Path(source.path),
        **source.model_dump(exclude=NO_VALUES, exclude_none=True),
        max_line_bytes=limits.max_line_bytes,
        max_document_bytes=limits.max_document_bytes,
        max_expansion_ratio=limits.max_expansion_ratio,
    )
    write = WriteDocuments(rows_per_file=limits.rows_per_shard)
    blocks = [read, ChildSafety(), DropDuplicates(), write]
    ingest(f"ingest/{name}", blocks, max_quarantined_share=limits.max_quarantined_share)


if __name__ == "__main__":
    main()
