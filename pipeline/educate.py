"""educate: turn the refusals into articles on the principle behind them.

python -m pipeline.educate
"""

from pipeline.arguments import StageParser
from safelm.builder.paths import build
from safelm.builder.run import run
from safelm.documents.shards import ReadShards
from safelm.synthesis.writer import synthesis_blocks
from specs.params import Params


def main() -> None:
    """Write an article for each dialogue of build/refuse into build/educate."""
    StageParser("educate", __doc__).parse_args()
    params = Params.read("educate", "gates", "engines", "score", "scorers")
    read = ReadShards(folder=build("refuse"))
    run("educate", synthesis_blocks("educate", read, params.educate.prompts, params))


if __name__ == "__main__":
    main()
