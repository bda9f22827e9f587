"""score: give every web document a safety score, from 0 (harmless) to 5 (harmful).

python -m pipeline.score
"""

import argparse

from safelm.blocks import ReadShards, WriteColumns
from safelm.executor import run
from safelm.paths import build
from safelm.scoring.scorers import SafetyScorer, scorer_files
from specs.document import SCORES
from specs.params import Params


def main() -> None:
    """Write the columns of the scorers beside the shards of the web."""
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter).parse_args()
    params = Params.read("score").score
    run(
        "score",
        [
            ReadShards(folder=build("ingest", "web")),
            SafetyScorer(files=scorer_files(), scorers=tuple(params.scorers), ensemble=params.ensemble),
            WriteColumns(columns=dict(SCORES)),
        ],
    )


if __name__ == "__main__":
    main()
