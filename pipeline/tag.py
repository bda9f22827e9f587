"""tag: put the harmfulness tag between the words of raw unsafe documents.

python -m pipeline.tag unsafe
"""

from pipeline.arguments import StageParser
from safelm.builder.paths import build
from safelm.builder.run import run
from safelm.corpora.tagging import InsertTags
from safelm.documents.shards import ReadShards, WriteDocuments
from specs.params import Params


def main() -> None:
    """Tag the documents of the scores that the row names into build/tag/<row>."""
    params = Params.read("tags")
    parser = StageParser("tag", __doc__)
    parser.add_row("row", "tags")
    name = parser.parse_args().row
    row = params.tags[name]
    run(
        f"tag/{name}",
        [
            ReadShards(
                folder=build(*row.from_.split("/")), scores=build("score"), select=tuple(row.scores)
            ),
            InsertTags(rate=row.rate, mode=row.mode, seed=row.seed),
            WriteDocuments(),
        ],
    )


if __name__ == "__main__":
    main()
