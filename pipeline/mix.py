"""mix: plan which rows a mixture reads, to the token, and put its token files beside the plan.

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
    """Plan a mixture into build/mix/<mixture>."""
    name = StageParser("mix", __doc__).parse_row("mixture", "mixtures")
    params = Params.read("mix", "mixtures", "corpora")
    mixture, slots = params.mixtures[name], params.mixtures[name].slots
    rows = [*map(part_name, slots), *mixture.corpora]
    try:
        artifact(
            f"mix/{name}",
            plan_mixture,
            reads=replacement_inputs(build(), slots, params.corpora),
            mixture=name,
            phases=mixture.phases,
            tokenizer=build("tokenizer"),
            corpora={slot: build("tokenize", corpus) for slot, corpus in slots.items()},
            slots=slots,
            rows={row: params.corpora[row] for row in rows},
            tokens=params.mix.tokens,
            sequence_length=params.mix.sequence_length,
            layout=params.mix.layout,
            batch_size=params.mix.batch_size,
            held_out_rows=params.mix.held_out_rows,
            seed=params.mix.seed,
        )
    # Only the sizes of the corpora, which are known here, tell whether they can fill a mixture.
    except MixtureError as error:
        raise YamlFile(PARAMS).located(str(error)) from error


if __name__ == "__main__":
    main()
