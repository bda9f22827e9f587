"""finetune: benign finetuning of an instruction-tuned model with TRL.

python -m pipeline.finetune safe
"""

import argparse

from safelm.executor import artifact, locked
from safelm.paths import build
from safelm.tuning import benign_pairs, sentence, tune
from specs.params import Params


def main() -> None:
    """Finetune the model named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="a row of models")
    name = f"finetune/{(model := parser.parse_args().model)}"
    dials = Params.read("finetune").finetune
    pairs = benign_pairs(build("ingest", dials.source), examples=dials.examples, seed=dials.seed)
    with locked(name), artifact(build("finetune", model)) as folder:
        summary = tune(
            build("instruct", model),
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
