"""report: draw the paper's figures from our measurements, beside the paper's own numbers.

python -m pipeline.report
"""

from pipeline.arguments import StageParser
from pipeline.declared import declared_rows
from safelm.builder.artifact import artifact
from safelm.report.build import FILES, make_report
from safelm.report.inputs import input_folders
from specs.paper import PAPER
from specs.params import Params


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
    declared = declared_rows(params)
    artifact(
        "report",
        make_report,
        reads=[*input_folders(declared), *FILES, PAPER],
        declared=declared,
        params=params.model_dump(mode="json", by_alias=True),
    )


if __name__ == "__main__":
    main()
