"""mix: plan which rows a model reads, to the token, and put its token files beside the plan.

Models of one mixture, budget and batch share the plan.

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
from specs.shape import read_shape
from specs.yaml_source import YamlFile


def main() -> None:
    """Plan the mixture of a model into build/mix/<model>."""
    name = StageParser("mix", __doc__).parse_row("model", "models")
    params = Params.read("mix", "budgets", "mixtures", "corpora", "models")
    model = params.models[name]
    budget, mixture = params.budgets[model.budget], params.mixtures[model.mixture]
    slots = mixture.slots
    rows = [*map(part_name, slots), *mixture.corpora]
    try:
        artifact(
            f"mix/{name}",
            plan_mixture,
            reads=replacement_inputs(build(), slots, params.corpora),
            mixture=model.mixture,
            phases=mixture.phases,
            tokenizer=build("tokenizer"),
            corpora={slot: build("tokenize", corpus) for slot, corpus in slots.items()},
            slots=slots,
            rows={row: params.corpora[row] for row in rows},
            tokens=budget.tokens,
            sequence_length=budget.sequence_length,
            layout=budget.layout,
            batch_size=read_shape(model.shape).recipe.batch(budget),
            held_out_rows=params.mix.held_out_rows,
            seed=params.mix.seed,
        )
    # Only the sizes of the corpora, which are known here, tell whether they can fill a mixture.
    except MixtureError as error:
        raise YamlFile(PARAMS).located(str(error)) from error


if __name__ == "__main__":
    main()
