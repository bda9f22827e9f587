"""annotate: a judge grades a sample of the web from 0 (harmless) to 5 (harmful).

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
    """Grade the sample that params.yaml asks for."""
    StageParser("annotate", __doc__).parse_args()
    tables = Params.read("annotate", "scorers", "engines")
    params = tables.annotate
    is_given = isinstance(tables.scorers[params.judge], Labels)
    run(
        "annotate",
        [
            ReadSample(
                folder=build("ingest", "web"),
                purpose="annotate",
                documents=params.documents,
                seed=params.seed,
                with_label=is_given,
            ),
            labeller(params.judge, tables.scorers, tables.engines),
            KeepGraded(),
            WriteColumns(columns=dict(LABELS)),
        ],
    )


if __name__ == "__main__":
    main()
