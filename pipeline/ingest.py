"""ingest: read a source of params.yaml, drop exact duplicates and quarantine what is broken.

python -m pipeline.ingest web
"""

from pathlib import Path

from pipeline.arguments import StageParser
from safelm.documents.shards import WriteDocuments
from safelm.ingestion.child_safety import ChildSafety
from safelm.ingestion.dedup import DropDuplicates
from safelm.ingestion.ingest import ingest
from safelm.ingestion.registry import READERS
from specs.params import Params


def main() -> None:
    """Read the source that is named into build/ingest/<source>."""
    params = Params.read("sources", "ingest")
    parser = StageParser("ingest", __doc__)
    parser.add_row("source", "sources")
    name = parser.parse_args().source
    source, limits = params.sources[name], params.ingest
    read = READERS[source.reader](
        source=name,
        path=Path(source.path),
        **source.model_dump(exclude={"reader", "path"}, exclude_none=True),
        max_line_bytes=limits.max_line_bytes,
        max_document_bytes=limits.max_document_bytes,
        max_expansion_ratio=limits.max_expansion_ratio,
    )
    blocks = [
        read,
        ChildSafety(),
        DropDuplicates(),
        WriteDocuments(rows_per_file=limits.rows_per_shard),
    ]
    ingest(f"ingest/{name}", blocks, max_quarantined_share=limits.max_quarantined_share)


if __name__ == "__main__":
    main()
