"""tag: insert the harmfulness tag between the words of raw unsafe documents.

python -m pipeline.tag unsafe
"""

from pipeline.arguments import StageParser
from safelm.builder.run import run
from safelm.corpora.tagging import InsertTags
from safelm.documents.shards import WriteDocuments, read_documents
from specs.params import Params


def main() -> None:
    """Tag the documents that a row selects into build/tag/<row>."""
    name = StageParser("tag", __doc__).parse_row("row", "tags")
    row = Params.read("tags").tags[name]
    read = read_documents(f"clean/{row.from_}", row.scores)
    insert = InsertTags(rate=row.rate, mode=row.mode, seed=row.seed)
    run(f"tag/{name}", [read, insert, WriteDocuments()])


if __name__ == "__main__":
    main()
