"""evaluate: measure safety and utility of a model on every suite, with every decoder.

python -m pipeline.evaluate safe instruct
"""

from pipeline.arguments import StageParser
from pipeline.protocol import evaluation_protocol
from safelm.builder.paths import build
from safelm.evaluation.evaluate import evaluate_model
from specs.params import Params


def main() -> None:
    """Evaluate a model after one of its training stages into build/evaluate/<model>-<stage>."""
    parser = StageParser("evaluate", __doc__)
    parser.add_row("model", "models")
    parser.add_argument("stage", choices=("pretrain", "instruct", "finetune"))
    arguments = parser.parse_args()
    model, stage = arguments.model, arguments.stage
    params = Params.read("evaluate", "scorers", "engines")
    evaluate_model(
        f"evaluate/{model}-{stage}",
        weights=build(stage, model),
        model=model,
        stage=stage,
        protocol=evaluation_protocol(params),
    )


if __name__ == "__main__":
    main()
