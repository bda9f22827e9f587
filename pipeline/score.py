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
    """Write the grades of each scorer beside each shard of the web, and the ensemble's scores."""
    StageParser("score", __doc__).parse_args()
    params = Params.read("score", "scorers", "engines")
    names, ensemble = params.score.scorers, params.score.ensemble
    began, graded = time.monotonic(), {}
    with locked("score"):
        for name, grade in graders(names, params.scorers, params.engines).items():
            read = ReadShards(folder=build("ingest", "web"))
            blocks = [read, grade, WriteColumns(columns=dict(GRADES))]
            graded[name] = make_shards(f"score/{name}", blocks)
            print_summary(graded[name], began)
        read_grades = ReadGrades(columns=scorer_shards(graded))
        combine = CombineGrades(rule=ensemble.rule, thresholds=ensemble.thresholds)
        write = WriteColumns(columns=scores_of_all(names))
        finish(make_shards("score", [read_grades, combine, write]), began, inside=graded)
        for line in ungraded_summary(build("score"), names):
            print(line, flush=True)


if __name__ == "__main__":
    main()
