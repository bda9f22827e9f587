"""evaluate: measure a model on every suite, with every decoder; and its utility.

python -m pipeline.evaluate safe instruct
"""

from pipeline.arguments import StageParser
from pipeline.protocol import evaluation_protocol
from safelm.builder.paths import build
from safelm.evaluation.evaluate import evaluate_model
from specs.params import Params


def main() -> None:
    """Evaluate the model and stage named on the command line."""
    parser = StageParser("evaluate", __doc__)
    parser.add_row("model", "models")
    parser.add_argument("stage", choices=("pretrain", "instruct", "finetune"))
    model, stage = (words := parser.parse_args()).model, words.stage
    tables = Params.read("evaluate", "scorers", "engines")
    evaluate_model(
        f"evaluate/{model}-{stage}",
        weights=build(stage, model),
        model=model,
        stage=stage,
        protocol=evaluation_protocol(tables),
    )


if __name__ == "__main__":
    main()
