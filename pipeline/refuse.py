"""refuse: turn the worst documents into dialogues in which the request is declined.

python -m pipeline.refuse dialogues
"""

from pipeline.arguments import StageParser
from safelm.builder.run import run
from safelm.documents.shards import read_documents
from safelm.synthesis.writer import synthesis_blocks
from specs.params import Params


def main() -> None:
    """Write a refusal for each document of some scores into build/refuse/<row>."""
    name = StageParser("refuse", __doc__).parse_row("row", "refuse")
    params = Params.read("refuse", "gates", "engines", "score", "scorers")
    row = params.refuse[name]
    read = read_documents(f"clean/{row.from_}", row.scores)
    run(f"refuse/{name}", synthesis_blocks("refuse", read, row, params))


if __name__ == "__main__":
    main()
