"""score: give every web document a safety score, from 0 (harmless) to 5 (harmful).

python -m pipeline.score
"""

import time

from pipeline.arguments import StageParser
from safelm.builder.locks import StageError, locked
from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.builder.run import finish, make_shards, print_summary
from safelm.documents.shards import ReadShards, WriteColumns
from safelm.scoring.ensemble import CombineGrades, ReadGrades, ungraded_summary
from safelm.scoring.registry import graders, is_fitted, scorer_shards
from safelm.scoring.shift import MAX_USUAL, beyond, describe_shift, shift_from_labels
from specs.document import GRADES, scores_of_all
from specs.params import Params


def main() -> None:
    """Write the grades of each scorer beside each shard of the web, and the ensemble's scores."""
    StageParser("score", __doc__).parse_args()
    params = Params.read("annotate", "score", "scorers", "engines")
    names, ensemble = params.score.scorers, params.score.ensemble
    began, graded = time.monotonic(), {}
    with locked("score"):
        for name, grade in graders(names, params.scorers, params.engines).items():
            read = ReadShards(folder=build("clean", "web"))
            blocks = [read, grade, WriteColumns(columns=dict(GRADES))]
            graded[name] = make_shards(f"score/{name}", blocks)
            print_summary(graded[name], began)
        read_grades = ReadGrades(columns=scorer_shards(graded))
        combine = CombineGrades(rule=ensemble.rule, thresholds=ensemble.thresholds)
        write = WriteColumns(columns=scores_of_all(names))
        combined = make_shards("score", [read_grades, combine, write])
        inside = dict(graded)
        if is_fitted(names, params.scorers):
            inside["shift"] = _compare(params, combined)
        finish(combined, began, inside=inside)
        for line in ungraded_summary(build("score"), names):
            print(line, flush=True)


def _compare(params: Params, combined: Manifest) -> Manifest:
    """Measure how unlike the labels the scored documents are.

    Raises StageError beyond `score.max_shift`.
    """
    pool = params.annotate.pool.items()
    alike = [name for name, row in pool if row.source == "web" and row.draw is None]
    scores = scorer_shards({"score": combined})["score"]
    manifest, shift = shift_from_labels(build("annotate"), build("clean", "web"), scores, alike)
    bounds = params.score.max_shift
    if bounds and beyond(shift, bounds.model_dump()):
        raise StageError(f"score: {describe_shift(shift)}; or raise score.max_shift")
    if beyond(shift, MAX_USUAL):
        print(f"{'score':<18} {describe_shift(shift)}", flush=True)
    return manifest


if __name__ == "__main__":
    main()
