"""The command `safelm estimate`: validate and cost training runs before anything is built.

Nothing is written. Each model is made once on torch's meta device, where it takes no memory.
"""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path

import pipeline.offline  # noqa: F401  (before transformers)
from safelm.corpora.mixing import MixtureError
from safelm.pretraining.estimate import check_parameters, plan_sizes, report
from specs.checks.estimate import check_estimate
from specs.checks.start import shape_of
from specs.params import Params
from specs.validation import mistakes
from specs.yaml_source import YamlFile, check


def lines(path: Path, only: str | None) -> list[str]:
    """Return the lines to print for every model of a file such as params.yaml, or for one.

    Raises:
        SpecError: the file is not valid, or has no sizes; the message names the line.
    """
    file = YamlFile(path)
    params: Params = check(Params, file)
    file.refuse(file.problems(chain(mistakes(params), check_estimate(params))))
    if only is not None and only not in params.models:
        raise file.error_at(("models",), f"has no row {only} (rows are {', '.join(params.models)})")
    names = params.models if only is None else [only]
    found: list[str] = []
    for name in names:
        found += _model_lines(name, params, file)
    return found


def _model_lines(name: str, params: Params, file: YamlFile) -> Iterator[str]:
    model, machines = params.models[name], params.estimate
    shape = shape_of(params, model)
    if machines is None:
        raise file.error_at(("estimate",), "is missing; add the block, as in specs/setups/paper")
    if shape is None:
        raise file.error_at(
            ("models", name, "start"),
            "must be a folder with config.json, which has the architecture, to estimate its cost "
            f"(got {model.start.model if model.start else None}); fetch the weights",
        )
    budget = params.budgets[model.budget]
    try:
        plan = plan_sizes(
            model.mixture,
            params.mixtures[model.mixture],
            budget,
            params.corpora,
            machines,
            shape,
        )
    except MixtureError as error:
        raise file.located(str(error)) from error
    check_parameters(shape)
    yield f"models.{name}:"
    for line in report(plan, shape, model.shape, machines):
        yield f"  {line}"
