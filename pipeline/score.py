"""score: give every document of a source a safety score, from 0 (harmless) to 5 (harmful).

python -m pipeline.score web
"""

import time

from pipeline.arguments import StageParser
from safelm.builder.locks import StageError, locked
from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.builder.run import finish, make_shards, print_summary
from safelm.documents.shards import WriteColumns, read_documents
from safelm.scoring.ensemble import CombineGrades, ReadGrades, ungraded_summary
from safelm.scoring.registry import graders, is_fitted, scorer_shards
from safelm.scoring.shift import MAX_USUAL, beyond, describe_shift, shift_from_labels
from specs.document import GRADES, scores_of_all
from specs.params import Params


def main() -> None:
    """Write the grades of each scorer and the ensemble's scores into build/score/<source>."""
    source = StageParser("score", __doc__).parse_row("source", "score.sources")
    stage = f"score/{source}"
    params = Params.read("annotate", "score", "scorers", "engines")
    names, ensemble = params.score.scorers, params.score.ensemble
    began, graded = time.monotonic(), {}
    with locked(stage):
        for name, grade in graders(names, params.scorers, params.engines).items():
            read = read_documents(f"clean/{source}")
            blocks = [read, grade, WriteColumns(columns=dict(GRADES))]
            graded[name] = make_shards(f"{stage}/{name}", blocks)
            print_summary(graded[name], began)
        read_grades = ReadGrades(columns=scorer_shards(graded))
        combine = CombineGrades(rule=ensemble.rule, thresholds=ensemble.thresholds)
        write = WriteColumns(columns=scores_of_all(names))
        combined = make_shards(stage, [read_grades, combine, write])
        inside = dict(graded)
        # Before `finish`, so that nothing beyond `max_shift` is installed in build/.
        if is_fitted(names, params.scorers):
            inside["shift"] = _compare(params, source, combined)
        finish(combined, began, inside=inside)
        for line in ungraded_summary(build(stage), names):
            print(line, flush=True)


def _compare(params: Params, source: str, combined: Manifest) -> Manifest:
    """Measure how unlike the labels the scored documents of a source are.

    Raises StageError beyond `score.max_shift`.
    """
    pool = params.annotate.pool.items()
    alike = [name for name, row in pool if row.source == source and row.draw is None]
    scores = scorer_shards({"score": combined})["score"]
    labels, documents = build("annotate"), build("clean", source)
    manifest, shift = shift_from_labels(f"score/{source}", labels, documents, scores, alike)
    bounds = params.score.max_shift
    if bounds and beyond(shift, bounds.model_dump()):
        raise StageError(f"score/{source}: {describe_shift(shift)}; or raise score.max_shift")
    if beyond(shift, MAX_USUAL):
        print(f"{'score':<18} {describe_shift(shift)}", flush=True)
    return manifest


if __name__ == "__main__":
    main()
