"""educate: turn refusals into articles on the principle behind them.

python -m pipeline.educate lessons
"""

from pipeline.arguments import StageParser
from safelm.builder.run import run
from safelm.documents.shards import read_documents
from safelm.synthesis.writer import synthesis_blocks
from specs.params import Params


def main() -> None:
    """Write an article for each dialogue of a row of `refuse` into build/educate/<row>."""
    name = StageParser("educate", __doc__).parse_row("row", "educate")
    params = Params.read("educate", "gates", "engines", "score", "scorers")
    row = params.educate[name]
    read = read_documents(f"refuse/{row.from_}")
    run(f"educate/{name}", synthesis_blocks("educate", read, row, params))


if __name__ == "__main__":
    main()
