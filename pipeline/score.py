"""score: give every web document a safety score, from 0 (harmless) to 5 (harmful).

python -m pipeline.score
"""

import time

from pipeline.arguments import StageParser
from safelm.builder.locks import locked
from safelm.builder.paths import build
from safelm.builder.run import finish, make_shards, print_summary
from safelm.documents.shards import ReadShards, WriteColumns
from safelm.scoring.ensemble import CombineGrades, ReadGrades, ungraded_summary
from safelm.scoring.registry import graders, scorer_shards
from specs.document import GRADES, scores_of_all
from specs.params import Params


def main() -> None:
    """A narrow file of each scorer beside each shard of the web, and one with all columns and the
    ensemble's score.
    """
    StageParser("score", __doc__).parse_args()
    params = Params.read("score", "scorers", "engines")
    names, rule = params.score.scorers, params.score.ensemble
    began, made = time.monotonic(), {}
    with locked("score"):
        for name, grade in graders(names, params.scorers, params.engines).items():
            blocks = [
                ReadShards(folder=build("ingest", "web")),
                grade,
                WriteColumns(columns=dict(GRADES)),
            ]
            made[name] = make_shards(f"score/{name}", blocks)
            print_summary(made[name], began)
        combine = [
            CombineGrades(rule=rule.rule, of=rule.thresholds),
            WriteColumns(columns=scores_of_all(names)),
        ]
        combined = make_shards("score", [ReadGrades(columns=scorer_shards(made)), *combine])
        finish(combined, began, inside=made)
        for line in ungraded_summary(build("score"), names):
            print(line, flush=True)


if __name__ == "__main__":
    main()
