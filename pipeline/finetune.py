"""finetune: benign finetuning of an instruction-tuned model with TRL.

python -m pipeline.finetune safe
"""

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.posttraining import finetune
from specs.params import Params


def main() -> None:
    """Finetune the model named on the command line."""
    parser = StageParser("finetune", __doc__)
    parser.add_row("model", "models")
    name = f"finetune/{(model := parser.parse_args().model)}"
    dials = Params.read("finetune").finetune
    artifact(
        name,
        finetune,
        name=name,
        base=build("instruct", model),
        **dials.model_dump() | {"source": build("ingest", dials.source)},
    )


if __name__ == "__main__":
    main()
