"""compare: ask the models of others what ours are asked, judge their answers, and measure their
utility.

python -m pipeline.compare
"""

from dataclasses import replace

from pipeline.arguments import StageParser
from pipeline.protocol import asked
from safelm.builder.paths import build
from safelm.evaluation.evaluate import evaluate_model
from safelm.evaluation.external_models import checked
from specs.params import Params


def main() -> None:
    """Evaluate every row of `external_models`; all are checked before the first is asked."""
    StageParser("compare", __doc__).parse_args()
    tables = Params.read("external_models", "evaluate", "scorers", "engines")
    common = asked(tables)
    build("compare").mkdir(parents=True, exist_ok=True)  # an output of DVC, also of no rows
    models = {
        name: checked(name, row, common.decoders) for name, row in tables.external_models.items()
    }
    for name, row in tables.external_models.items():
        evaluate_model(
            f"compare/{name}",
            base=models[name],
            model=name,
            stage="instruct" if row.chat else "pretrain",
            doses=[],
            asked=replace(
                common, decoders={one: common.decoders[one] for one in row.decoders}, tagged_only=[]
            ),
        )


if __name__ == "__main__":
    main()
