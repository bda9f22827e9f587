"""mix: plan what a mixture reads, to the token, and put its token files beside the plan.

python -m pipeline.mix safe
"""

import argparse

from safelm.executor import artifact, locked
from safelm.mixing.budget import MixtureError
from safelm.mixing.mixture import ids_of, mix
from safelm.mixing.replacement import replacements
from safelm.paths import build
from specs.params import PARAMS, Params
from specs.yaml_file import YamlFile


def main() -> None:
    """Plan the mixture named on the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("mixture", help="a row of `mixtures` in params.yaml")
    name = parser.parse_args().mixture
    params = Params.read("mix", "mixtures", "corpora")
    mixture = params.mixtures[name]
    vocabulary, tag = ids_of(build("tokenizer"))
    with locked(f"mix/{name}"), artifact(build("mix", name)) as folder:
        try:
            plan = mix(
                name,
                mixture.phases,
                {slot: build("tokenize", corpus) for slot, corpus in mixture.slots.items()},
                {slot: params.corpora[corpus].epochs for slot, corpus in mixture.slots.items()},
                replacements(build(), mixture.slots, params.corpora),
                **params.mix.model_dump(),
                vocabulary=vocabulary,
                tag=tag,
                folder=folder,
            )
        except MixtureError as error:  # what a mixture asks for can only be weighed when its corpora are there
            raise YamlFile(PARAMS).located(str(error)) from error
    print(f"mix/{name:<14} {plan.steps:,} steps of {plan.batch} rows, {plan.tokens:,} of {plan.budget:,} tokens")
    print(*plan.table(), sep="\n", flush=True)


if __name__ == "__main__":
    main()
