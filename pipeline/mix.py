"""mix: plan what a mixture reads, to the token, and put its token files beside the plan.

python -m pipeline.mix safe
"""

from pipeline.arguments import StageParser
from safelm.builder.artifact import artifact
from safelm.builder.paths import build
from safelm.corpora.mixing import MixtureError
from safelm.corpora.mixing.mixture import plan_mixture
from safelm.corpora.mixing.replacement import replacement_inputs
from safelm.corpora.mixing.rows import part_name
from specs.params import PARAMS, Params
from specs.yaml_source import YamlFile


def main() -> None:
    """Plan the mixture named on the command line."""
    parser = StageParser("mix", __doc__)
    parser.add_row("mixture", "mixtures")
    name = parser.parse_args().mixture
    params = Params.read("mix", "mixtures", "corpora")
    mixture = params.mixtures[name]
    try:
        artifact(
            f"mix/{name}",
            plan_mixture,
            reads=replacement_inputs(build(), mixture.slots, params.corpora),
            mixture=name,
            phases=mixture.phases,
            tokenizer=build("tokenizer"),
            corpora={slot: build("tokenize", corpus) for slot, corpus in mixture.slots.items()},
            slots=mixture.slots,
            rows={
                name: params.corpora[name]
                for name in [*map(part_name, mixture.slots), *mixture.corpora]
            },
            tokens=params.mix.tokens,
            sequence_length=params.mix.sequence_length,
            layout=params.mix.layout,
            batch_size=params.mix.batch_size,
            held_out_rows=params.mix.held_out_rows,
            seed=params.mix.seed,
        )
    except (
        MixtureError
    ) as error:  # what a mixture asks for can only be weighed when its corpora are there
        raise YamlFile(PARAMS).located(str(error)) from error


if __name__ == "__main__":
    main()
