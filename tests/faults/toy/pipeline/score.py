"""score: grade the documents by the lexicon alone."""

from safelm.blocks import ReadShards, WriteColumns
from safelm.executor import run
from safelm.paths import build
from safelm.scoring.judge import LEXICON
from safelm.scoring.scorers import SafetyScorer
from specs.document import SCORES
from specs.params import Params


def main() -> None:
    params = Params.read("score").score
    scorer = SafetyScorer(files={"judge": LEXICON}, scorers=tuple(params.scorers), ensemble=params.ensemble)
    run("score", [ReadShards(folder=build("ingest", "web")), scorer, WriteColumns(columns=dict(SCORES))])


if __name__ == "__main__":
    main()
