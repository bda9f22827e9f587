"""instruct: safety instruction tuning of a pretrained model with TRL; models that know the tag also read tagged pairs.

python -m pipeline.instruct safe
"""

import argparse

from safelm.chat import knows_tag
from safelm.executor import artifact, locked
from safelm.paths import build
from safelm.tuning import safety_pairs, sentence, tune
from specs.params import Params


def main() -> None:
    """Tune the model named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="a row of models")
    name = f"instruct/{(model := parser.parse_args().model)}"
    params = Params.read("instruct", "tag")
    dials, base = params.instruct, build("pretrain", model)
    pairs = safety_pairs(
        build("ingest", dials.source),
        examples=dials.examples,
        refusals=dials.refusals,
        tags=dials.tagged if knows_tag(base) else 0.0,
        rate=params.tag.rate,
        mode=params.tag.mode,
        seed=dials.seed,
    )
    with locked(name), artifact(build("instruct", model)) as folder:
        summary = tune(
            base,
            pairs,
            folder,
            name=name,
            epochs=dials.epochs,
            batch=dials.batch,
            sequence=dials.sequence,
            learning_rate=dials.learning_rate,
            seed=dials.seed,
        )
    print(sentence(name, summary), flush=True)


if __name__ == "__main__":
    main()
