"""report: draw the paper's figures from our measurements, beside the paper's own numbers.

python -m pipeline.report
"""

from pathlib import Path

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.report.build import make_report
from safelm.report.inputs import FOLDERS, Declared
from safelm.report.measured import STAGES
from safelm.report.page import FILES
from specs.paper import PAPER
from specs.params import Params

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
    artifact(
        "report",
        make_report,
        reads=[*_inputs(params), *FILES, PAPER],
        declared=Declared(
            **dict(params.report),
            external_models=list(params.external_models),
            decoders=params.evaluate.decoders,
            rephrased_scores=params.rephrase.scores,
            made_by=_made_by(params),
            rule=params.score.ensemble.rule,
            labelled=[row.source for row in params.annotate.pool.values()],
            **{table: getattr(params, table) for table in TABLES},
        ),
        engine=params.rephrase.engine,
        params=params.model_dump(mode="json", by_alias=True),
    )


def _made_by(params: Params) -> dict[str, dict[str, str]]:
    """Return the rows that labelled, scored, audited and wrote, with their kinds."""
    scorers = {name: row.kind for name, row in params.scorers.items()}
    engines = {name: row.kind for name, row in params.engines.items()}
    writers = (params.rephrase, params.refuse, params.educate)
    return {
        "labels": {row: scorers[row] for row in [params.annotate.judge]},
        "scores": {row: scorers[row] for row in params.score.ensemble.of},
        "audit": {row: scorers[row] for row in [params.audit.judge]},
        "writer": {row.engine: engines[row.engine] for row in writers},
    }


def _inputs(params: Params) -> list[Path]:
    """List the folders of build/ that the report reads, without those of removed rows."""
    tables: dict[str, list[str]] = {
        "ingest": [*params.sources],
        "tag": [*params.tags],
        "card": [*params.corpora],
        "mix": [*params.mixtures],
        "pretrain": [*params.models],
        "evaluate": [f"{model}-{stage}" for model in params.models for stage in STAGES],
    }
    whole = [build(folder) for folder in FOLDERS if folder not in tables]
    return whole + [build(folder, row) for folder, rows in tables.items() for row in rows]


if __name__ == "__main__":
    main()
