"""refuse: turn the worst documents into dialogues in which the request is declined.

python -m pipeline.refuse
"""

from pipeline.arguments import StageParser
from safelm.builder.paths import build
from safelm.builder.run import run
from safelm.documents.shards import ReadShards
from safelm.synthesis.writer import synthesis_blocks
from specs.params import Params


def main() -> None:
    """Write a refusal for each document of some scores into build/refuse."""
    StageParser("refuse", __doc__).parse_args()
    params = Params.read("refuse", "gates", "engines", "score", "scorers")
    scores = tuple(params.refuse.scores)
    read = ReadShards(folder=build("clean", "web"), scores=build("score"), select=scores)
    run("refuse", synthesis_blocks("refuse", read, params.refuse.prompts, params))


if __name__ == "__main__":
    main()
