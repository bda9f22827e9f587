"""finetune: benign finetuning of an instruction-tuned model with TRL.

python -m pipeline.finetune safe
"""

import pipeline.offline  # noqa: F401  (before transformers)
from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.posttraining import finetune
from specs.params import Params


def main() -> None:
    """Finetune a model into build/finetune/<model>."""
    model = StageParser("finetune", __doc__).parse_row("model", "models")
    params = Params.read("models", "finetune")
    settings = params.finetune[params.models[model].finetune]
    artifact(
        f"finetune/{model}",
        finetune,
        name=f"finetune/{model}",
        base=build("instruct", model),
        source=build("clean", settings.source),
        **settings.model_dump(exclude={"source"}),
    )


if __name__ == "__main__":
    main()
