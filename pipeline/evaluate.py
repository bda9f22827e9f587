"""evaluate: ask a model every suite with every decoder, judge its answers, and measure its utility.

python -m pipeline.evaluate safe instruct
"""

import argparse

from safelm.decoding import Decoder
from safelm.evaluation.model import evaluate, table
from safelm.executor import artifact, locked
from safelm.paths import build
from specs.params import Params
from specs.suite import Suite


def main() -> None:
    """Evaluate the model and stage named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="a row of models")
    parser.add_argument("stage", choices=("pretrain", "instruct", "finetune"))
    model, stage = (asked := parser.parse_args()).model, asked.stage
    dials = Params.read("evaluate").evaluate
    name = f"evaluate/{model}-{stage}"
    with locked(name), artifact(build("evaluate", f"{model}-{stage}")) as folder:
        metrics = evaluate(
            build(stage, model),
            folder,
            name=model,
            stage=stage,
            suites={suite: Suite.read(suite) for suite in dials.suites},
            decoders={one: Decoder(**row.model_dump(), seed=dials.seed) for one, row in dials.decoders.items()},
            tagged_only=dials.tagged_only,
            prompts=dials.prompts,
            tokens=dials.tokens,
            batch=dials.batch,
            seed=dials.seed,
        )
    print(name, *table(metrics), sep="\n", flush=True)


if __name__ == "__main__":
    main()
