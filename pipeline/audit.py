"""audit: a sample of each predicted score goes back to a judge; how many does it confirm, and what
was missed?

python -m pipeline.audit
"""

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.builder.run import make_shards
from safelm.documents.shards import WriteColumns
from safelm.scoring.audit import ReadStratified, write_audit
from safelm.scoring.base import KeepGraded
from safelm.scoring.registry import grader
from specs.document import AUDIT
from specs.params import Params


def main() -> None:
    """Grade the sample, and compare."""
    StageParser("audit", __doc__).parse_args()
    tables = Params.read("audit", "scorers", "engines")
    params, web, scores = tables.audit, build("ingest", "web"), build("score")
    reader = ReadStratified(folder=web, scores=scores, documents=params.documents, seed=params.seed)
    judge = grader(params.judge, tables.scorers, tables.engines)
    judged = make_shards(
        "audit/judged", [reader, judge, KeepGraded(), WriteColumns(columns=dict(AUDIT))]
    )
    artifact("audit", write_audit, made=judged, scores=scores, confidence=params.confidence)


if __name__ == "__main__":
    main()
