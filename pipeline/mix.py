"""mix: plan what a mixture reads, to the token, and put its token files beside the plan.

python -m pipeline.mix safe
"""

import sys

from safelm.executor import artifact, locked
from safelm.mixing.mixture import mix, vocabulary_of
from safelm.paths import build
from specs.params import Params


def main(name: str) -> None:
    """Plan the mixture `name` of params.yaml."""
    params = Params.read("mix", "mixtures", "corpora")
    mixture = params.mixtures[name]
    with locked(f"mix/{name}"), artifact(build("mix", name)) as folder:
        plan = mix(
            name,
            mixture.phases,
            {corpus: build("tokenize", corpus) for corpus in mixture.corpora},
            {corpus: params.corpora[corpus].epochs for corpus in mixture.corpora},
            **params.mix.model_dump(),
            vocabulary=vocabulary_of(build("tokenizer")),
            folder=folder,
        )
    print(f"mix/{name:<14} {plan.steps:,} steps of {plan.batch} rows, {plan.tokens:,} of {plan.budget:,} tokens")
    print(*plan.table(), sep="\n", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
