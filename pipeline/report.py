"""report: draw the paper's figures from our measurements, beside the paper's own numbers.

python -m pipeline.report
"""

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.report.build import FILES, make_report
from safelm.report.figures.makers import declared_makers
from safelm.report.inputs import Declared, input_folders
from specs.paper import PAPER
from specs.params import Params
from specs.prompt import STAGES

TABLES = ("sources", "tags", "corpora", "mixtures", "models", "comparisons", "relearn", "attacks")


def main() -> None:
    """Judge the claims, and write the page and its tables into build/report."""
    StageParser("report", __doc__).parse_args()
    params = Params.read(
        "report",
        "sources",
        "annotate",
        "scorers",
        "score",
        "audit",
        "engines",
        "rephrase",
        "refuse",
        "educate",
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
    declared = Declared(
        **dict(params.report),
        external_models=list(params.external_models),
        decoders=params.evaluate.decoders,
        scored=params.score.sources,
        made_by=declared_makers(params),
        rule=params.score.ensemble.rule,
        labelled=[row.source for row in params.annotate.pool.values()],
        **{table: getattr(params, table) for table in (*TABLES, *STAGES)},
    )
    artifact(
        "report",
        make_report,
        reads=[*input_folders(declared), *FILES, PAPER],
        declared=declared,
        params=params.model_dump(mode="json", by_alias=True),
    )


if __name__ == "__main__":
    main()
