"""annotate: have a judge grade a sample of the web from 0 (harmless) to 5 (harmful).

python -m pipeline.annotate
"""

from pipeline.arguments import StageParser
from safelm.builder.paths import build
from safelm.builder.run import run
from safelm.documents.sample import ReadSample
from safelm.documents.shards import WriteColumns
from safelm.scoring.base import KeepGraded
from safelm.scoring.registry import labeller
from specs.document import LABELS
from specs.params import Params
from specs.scorer import Labels


def main() -> None:
    """Grade the sample into build/annotate."""
    StageParser("annotate", __doc__).parse_args()
    params = Params.read("annotate", "scorers", "engines")
    settings = params.annotate
    sample = ReadSample(
        folder=build("ingest", "web"),
        purpose="annotate",
        documents=settings.documents,
        seed=settings.seed,
        with_label=isinstance(params.scorers[settings.judge], Labels),
    )
    judge = labeller(settings.judge, params.scorers, params.engines)
    run("annotate", [sample, judge, KeepGraded(), WriteColumns(columns=dict(LABELS))])


if __name__ == "__main__":
    main()
