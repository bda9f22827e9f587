"""audit: have a judge grade a sample of each predicted score, to find how many it confirms.

python -m pipeline.audit web
"""

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.builder.run import make_shards
from safelm.documents.shards import WriteColumns
from safelm.scoring.audit import ReadStratified, write_audit
from safelm.scoring.base import KeepGraded
from safelm.scoring.registry import labeller
from specs.document import AUDIT
from specs.params import Params


def main() -> None:
    """Grade the sample, and write build/audit/<source>/audit.json."""
    source = StageParser("audit", __doc__).parse_row("source", "score.sources")
    params = Params.read("audit", "scorers", "engines")
    settings, scores = params.audit, build("score", source)
    judge = labeller(settings.judge, params.scorers, params.engines)
    sample = ReadStratified(
        folder=build("clean", source),
        scores=scores,
        purpose="audit",
        documents=settings.documents_per_score,
        seed=settings.seed,
        judge=judge,
    )
    blocks = [sample, judge, KeepGraded(), WriteColumns(columns=dict(AUDIT))]
    judged = make_shards(f"audit/{source}/judged", blocks)
    confidence = settings.confidence
    artifact(f"audit/{source}", write_audit, made=judged, scores=scores, confidence=confidence)


if __name__ == "__main__":
    main()
