"""evaluate: ask a model every suite with every decoder, judge its answers, and measure its utility.

python -m pipeline.evaluate safe instruct
"""

from pipeline.arguments import StageParser
from pipeline.protocol import asked
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
        base=build(stage, model),
        model=model,
        stage=stage,
        doses=tables.evaluate.checkpoint_decoders,
        asked=asked(tables),
    )


if __name__ == "__main__":
    main()
