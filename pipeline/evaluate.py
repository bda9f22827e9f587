"""evaluate: ask a model every suite with every decoder, judge its answers, and measure its utility.

python -m pipeline.evaluate safe instruct
"""

from pipeline.arguments import StageParser
from safelm.evaluation.stage import evaluate_model
from safelm.paths import build
from specs import SPECS
from specs.params import Params
from specs.suite import Suite


def main() -> None:
    """Evaluate the model and stage named on the command line."""
    parser = StageParser("evaluate", __doc__)
    parser.add_row("model", "models")
    parser.add_argument("stage", choices=("pretrain", "instruct", "finetune"))
    model, stage = (asked := parser.parse_args()).model, asked.stage
    tables = Params.read("evaluate", "scorers", "engines")
    dials = tables.evaluate
    evaluate_model(
        f"evaluate/{model}-{stage}",
        reads=[SPECS / "demo", SPECS / "hazards.yaml"],
        base=build(stage, model),
        model=model,
        stage=stage,
        suites={name: Suite.read(name) for name in dials.suites},
        decoders=dials.decoders,
        doses=dials.doses,
        tagged_only=dials.tagged_only,
        judges=dials.judges,
        scorers=tables.scorers,
        engines=tables.engines,
        prompts=dials.prompts,
        tokens=dials.tokens,
        batch=dials.batch,
        seed=dials.seed,
    )


if __name__ == "__main__":
    main()
