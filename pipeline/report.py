"""report: the paper's figures from our measurements, on one page, beside the paper's own numbers.

python -m pipeline.report
"""

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.report.build import make_report
from safelm.report.inputs import FOLDERS, Declared
from safelm.report.page import FILES
from specs.paper import PAPER
from specs.params import Params


def main() -> None:
    """Read what was measured, judge the claims and write the page."""
    StageParser("report", __doc__).parse_args()
    params = Params.read(
        "report",
        "sources",
        "rephrase",
        "tags",
        "corpora",
        "mixtures",
        "models",
        "external_models",
        "comparisons",
        "evaluate",
        "relearn",
        "attacks",
    )
    artifact(
        "report",
        make_report,
        reads=[*(build(folder) for folder in FOLDERS), *FILES, PAPER],
        declared=Declared(
            title=params.report.title,
            confidence=params.report.confidence,
            sources=params.sources,
            tags=params.tags,
            corpora=params.corpora,
            mixtures=params.mixtures,
            models=params.models,
            external_models=list(params.external_models),
            comparisons=params.comparisons,
            decoders=params.evaluate.decoders,
            relearn=params.relearn,
            attacks=params.attacks,
            rephrased_scores=params.rephrase.scores,
        ),
        engine=params.rephrase.engine,
        params=params.model_dump(mode="json", by_alias=True),
    )


if __name__ == "__main__":
    main()
