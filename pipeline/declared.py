"""The blocks of params.yaml that the report and the published cards show."""

from safelm.report.figures.makers import declared_makers
from safelm.report.inputs import Declared
from specs.params import Params
from specs.prompt import STAGES

TABLES = ("sources", "tags", "corpora", "mixtures", "models", "comparisons", "relearn", "attacks")


def declared_rows(params: Params) -> Declared:
    """Collect what was declared."""
    return Declared(
        **dict(params.report),
        external_models=list(params.external_models),
        decoders=params.evaluate.decoders,
        scored=params.score.sources,
        made_by=declared_makers(params),
        rule=params.score.ensemble.rule,
        labelled=[row.source for row in params.annotate.pool.values()],
        **{table: getattr(params, table) for table in (*TABLES, *STAGES)},
    )
