"""compare: measure external models on the same suites as ours, with the same judges.

python -m pipeline.compare
"""

from dataclasses import replace

from pipeline.arguments import StageParser
from pipeline.protocol import evaluation_protocol
from safelm.builder.paths import build
from safelm.evaluation.evaluate import evaluate_model
from safelm.evaluation.external_models import checked_weights
from specs.params import Params


def main() -> None:
    """Evaluate every row of `external_models` into build/compare/<row>."""
    StageParser("compare", __doc__).parse_args()
    params = Params.read("external_models", "evaluate", "scorers", "engines")
    rows, protocol = params.external_models, evaluation_protocol(params)
    build("compare").mkdir(parents=True, exist_ok=True)  # DVC expects its output even without rows
    # All rows are checked before the first is evaluated.
    weights = {name: checked_weights(name, row, protocol.decoders) for name, row in rows.items()}
    for name, row in rows.items():
        decoders = {decoder: protocol.decoders[decoder] for decoder in row.decoders}
        evaluate_model(
            f"compare/{name}",
            weights=weights[name],
            model=name,
            stage="instruct" if row.chat else "pretrain",
            protocol=replace(
                protocol, decoders=decoders, checkpoint_decoders=[], tagged_models_only=[]
            ),
        )


if __name__ == "__main__":
    main()
