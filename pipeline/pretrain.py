"""pretrain: train a model with Nanotron on its mixture, and convert it to Hugging Face's format.

python -m pipeline.pretrain safe
"""

import shutil

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build, scratch
from safelm.pretraining.launch import pretrain_model
from specs.params import Params
from specs.shape import Shape


def main() -> None:
    """Pretrain a model into build/pretrain/<model>."""
    name = StageParser("pretrain", __doc__).parse_row("model", "models")
    model = Params.read("models").models[name]
    artifact(
        f"pretrain/{name}",
        pretrain_model,
        model=name,
        shape=Shape.read(model.shape),
        mixture=build("mix", model.mixture),
        tokenizer=build("tokenizer"),
        seed=model.seed,
    )
    # Checkpoints to go on from after a kill; the model is in the store now.
    shutil.rmtree(scratch("pretrain", name), ignore_errors=True)


if __name__ == "__main__":
    main()
