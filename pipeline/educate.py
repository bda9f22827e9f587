"""educate: turn the refusals into articles on the principle behind them.

python -m pipeline.educate
"""

import argparse

from safelm.blocks import ReadShards, WriteDocuments
from safelm.executor import run
from safelm.paths import build
from safelm.writing.writer import Write
from specs.params import Params
from specs.prompt import PROMPTS


def main() -> None:
    """Write an article for each dialogue of build/refuse."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    params = Params.read("educate").educate
    run(
        "educate",
        [
            ReadShards(folder=build("refuse")),
            Write(
                prompts=tuple(PROMPTS / "educate" / f"{name}.yaml" for name in params.prompts),
                engine=params.engine,
                max_score=params.max_score,
                seed=params.seed,
            ),
            WriteDocuments(),
        ],
    )


if __name__ == "__main__":
    main()
