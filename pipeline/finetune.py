"""finetune: benign finetuning of an instruction-tuned model with TRL.

python -m pipeline.finetune safe
"""

import argparse

from safelm.artifact import artifact
from safelm.paths import build
from safelm.tuning import finetune
from specs.params import Params


def main() -> None:
    """Finetune the model named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="a row of models")
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
