"""The command `safelm estimate`: validate and cost a training run before anything is built.

Nothing is written. Each model is made once on torch's meta device, where it takes no memory.
"""

from collections.abc import Iterator
from pathlib import Path

import pipeline.offline  # noqa: F401  (before transformers)
from safelm.corpora.mixing import MixtureError
from safelm.pretraining.estimate import check_parameters, plan_sizes, report
from specs.scale import Scale, findings
from specs.shape import Shape
from specs.yaml_source import YamlFile, check


def lines(path: Path, only: str | None) -> list[str]:
    """Return the lines to print for every model of a file, or for one.

    Raises:
        SpecError: the file is not valid; the message names the line.
    """
    file = YamlFile(path)
    scale: Scale = check(Scale, file)
    file.refuse(file.problems(findings(scale)))
    if only is not None and only not in scale.models:
        raise file.error_at(("models",), f"has no row {only} (rows are {', '.join(scale.models)})")
    names = scale.models if only is None else [only]
    found: list[str] = []
    for name in names:
        found += _model_lines(name, scale, file)
    return found


def _model_lines(name: str, scale: Scale, file: YamlFile) -> Iterator[str]:
    model = scale.models[name]
    shape = Shape.read(model.shape)
    try:
        plan = plan_sizes(model.mixture, scale, shape)
    except MixtureError as error:
        raise file.located(str(error)) from error
    check_parameters(shape)
    yield f"models.{name}:"
    for line in report(plan, shape, model.shape, scale.cluster, scale.mix):
        yield f"  {line}"
