"""rephrase: rewrite unsafe documents as safe text that explains its subject, in several styles.

python -m pipeline.rephrase safe_web
"""

from pipeline.arguments import StageParser
from safelm.builder.run import run
from safelm.documents.shards import read_documents
from safelm.synthesis.writer import synthesis_blocks
from specs.params import Params


def main() -> None:
    """Rephrase the documents of some scores into build/rephrase/<row>."""
    name = StageParser("rephrase", __doc__).parse_row("row", "rephrase")
    params = Params.read("rephrase", "gates", "engines", "score", "scorers")
    row = params.rephrase[name]
    read = read_documents(f"clean/{row.from_}", row.scores)
    run(f"rephrase/{name}", synthesis_blocks("rephrase", read, row, params))


if __name__ == "__main__":
    main()
