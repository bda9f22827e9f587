"""score: grade the documents by the lexicon alone."""

from safelm.blocks import ReadShards, WriteColumns
from safelm.executor import run
from safelm.paths import build
from safelm.scoring.scorers import SafetyScorer, grader
from specs.document import scores_of_all
from specs.params import Params


def main() -> None:
    params = Params.read("score", "scorers")
    graders = {name: grader(name, params.scorers) for name in params.score.scorers}
    rule = params.score.ensemble
    scorer = SafetyScorer(graders=graders, rule=rule.rule, of=rule.thresholds)
    columns = WriteColumns(columns=scores_of_all(params.score.scorers))
    run("score", [ReadShards(folder=build("ingest", "web")), scorer, columns])


if __name__ == "__main__":
    main()
