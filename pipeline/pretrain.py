"""pretrain: train a model with Nanotron on its mixture, and convert it to Hugging Face's format.

python -m pipeline.pretrain safe
"""

import shutil

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build, scratch
from safelm.models.weights import Weights
from safelm.pretraining.launch import pretrain_model
from specs.llama import KEYS
from specs.params import Params
from specs.shape import read_shape


def main() -> None:
    """Pretrain a model into build/pretrain/<model>."""
    name = StageParser("pretrain", __doc__).parse_row("model", "models")
    model = Params.read("models").models[name]
    start = model.start
    weights = None
    if start:
        weights = Weights(row=f"params.yaml models.{name}.start", **start.model_dump())
    artifact(
        f"pretrain/{name}",
        pretrain_model,
        reads=[KEYS],
        model=name,
        shape=read_shape(model.shape),
        mixture=build("mix", name),
        tokenizer=build("tokenizer"),
        seed=model.seed,
        weights=weights,
    )
    # Checkpoints to go on from after a kill; the model is in the store now.
    shutil.rmtree(scratch("pretrain", name), ignore_errors=True)


if __name__ == "__main__":
    main()
