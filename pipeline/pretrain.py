"""pretrain: train a model with Nanotron on its mixture, and convert it to Hugging Face's format.

python -m pipeline.pretrain safe
"""

import argparse
import shutil

from safelm.executor import artifact, locked
from safelm.paths import build, scratch
from safelm.training.launch import pretrain
from specs.params import Params
from specs.shape import Shape


def main() -> None:
    """Pretrain the model named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="a row of models")
    name = parser.parse_args().model
    model = Params.read("models").models[name]
    with locked(f"pretrain/{name}"), artifact(build("pretrain", name)) as folder:
        done = pretrain(
            name,
            Shape.read(model.shape),
            build("mix", model.mixture),
            build("tokenizer"),
            seed=model.seed,
            run=scratch("pretrain", name),
            shared=scratch("prefixes"),
            folder=folder,
        )
    shutil.rmtree(scratch("pretrain", name))
    print(done.sentence(f"pretrain/{name}"), flush=True)


if __name__ == "__main__":
    main()
