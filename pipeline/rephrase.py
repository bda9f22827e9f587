"""rephrase: rewrite unsafe documents as safe text that explains its subject, in one of several styles.

python -m pipeline.rephrase
"""

import argparse

from safelm.blocks import ReadShards, WriteDocuments
from safelm.executor import run
from safelm.paths import build
from safelm.writing.writer import Write
from specs.params import Params
from specs.prompt import PROMPTS


def main() -> None:
    """Rephrase the documents of the scores that params.yaml names."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    params = Params.read("rephrase").rephrase
    run(
        "rephrase",
        [
            ReadShards(folder=build("ingest", "web"), scores=build("score"), select=tuple(params.scores)),
            Write(
                prompts=tuple(PROMPTS / "rephrase" / f"{name}.yaml" for name in params.styles),
                engine=params.engine,
                max_score=params.max_score,
                seed=params.seed,
            ),
            WriteDocuments(),
        ],
    )


if __name__ == "__main__":
    main()
