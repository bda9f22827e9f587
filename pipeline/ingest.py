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
        path=Path(source.path),
        files=source.files,
        source=name,
        text=source.text,
        prompt=source.prompt,
        license=source.license,
        line_bytes=limits.line_bytes,
        document_bytes=limits.document_bytes,
        expansion=limits.expansion,
    )
    blocks = [read, ChildSafety(), DropDuplicates(), WriteDocuments(rows_per_file=limits.rows)]
    ingest(f"ingest/{name}", blocks, quarantine=limits.quarantine)


if __name__ == "__main__":
    main()
