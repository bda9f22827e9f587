"""rephrase: rewrite unsafe documents as safe text that explains its subject, in several styles.

python -m pipeline.rephrase
"""

from pipeline.arguments import StageParser
from safelm.builder.paths import build
from safelm.builder.run import run
from safelm.documents.shards import ReadShards
from safelm.synthesis.writer import synthesis_blocks
from specs.params import Params


def main() -> None:
    """Rephrase the documents of some scores into build/rephrase."""
    StageParser("rephrase", __doc__).parse_args()
    params = Params.read("rephrase", "gates", "engines", "score", "scorers")
    scores = tuple(params.rephrase.scores)
    read = ReadShards(folder=build("clean", "web"), scores=build("score"), select=scores)
    run("rephrase", synthesis_blocks("rephrase", read, params.rephrase.styles, params))


if __name__ == "__main__":
    main()
