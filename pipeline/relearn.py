"""relearn: tune models on, on harmful pairs and on others, and ask them on the way: how many undo
their safety?

python -m pipeline.relearn
"""

from pipeline.arguments import StageParser
from pipeline.protocol import asked
from safelm.evaluation.attacks.relearning import relearn_models
from specs.params import Params


def main() -> None:
    """Tune and ask the models of every row of `relearn`."""
    StageParser("relearn", __doc__).parse_args()
    tables = Params.read("relearn", "evaluate", "scorers", "engines", "report")
    relearn_models(
        "relearn", rows=tables.relearn, confidence=tables.report.confidence, asked=asked(tables)
    )


if __name__ == "__main__":
    main()
