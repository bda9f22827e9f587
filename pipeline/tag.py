"""tag: put the harmfulness tag between the words of raw unsafe documents.

python -m pipeline.tag
"""

from pipeline.arguments import StageParser
from safelm.blocks import ReadShards, WriteDocuments
from safelm.executor import run
from safelm.paths import build
from safelm.tagging import InsertTags
from specs.params import Params


def main() -> None:
    """Tag the documents of the scores that params.yaml names."""
    StageParser("tag", __doc__).parse_args()
    params = Params.read("tag").tag
    raw = build(*params.from_.split("/"))
    run(
        "tag",
        [
            ReadShards(folder=raw, scores=build("score"), select=tuple(params.scores)),
            InsertTags(rate=params.rate, mode=params.mode, seed=params.seed),
            WriteDocuments(),
        ],
    )


if __name__ == "__main__":
    main()
