"""plan: validate a training run of any size before anything is built, and print its steps, memory,
FLOPs and GPU hours.

    python -m pipeline.estimate                        the paper's run, specs/setups/full_size.yaml
    python -m pipeline.estimate my_run.yaml safe       one model of a file of one's own

Not a stage: nothing is written. Each model is made once on torch's meta device, where it takes no
memory."""

import argparse
from pathlib import Path

from safelm.corpora.mixing import MixtureError
from safelm.pretraining.estimate import plan_sizes, refuse_other_size, report
from specs.scale import Scale, findings
from specs.shape import Shape
from specs.yaml_source import SpecError, YamlFile, check


def main() -> None:
    """Plan the models of a file."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("file", nargs="?", type=Path, default=Path("specs/setups/full_size.yaml"))
    parser.add_argument("model", nargs="?", help="a row of its `models`; all of them if left out")
    asked = parser.parse_args()
    try:
        print(*lines(asked.file, asked.model), sep="\n")
    except SpecError as error:
        raise SystemExit(str(error)) from error


def lines(path: Path, only: str | None) -> list[str]:
    """What is printed. Raises SpecError with the line of a mistake."""
    file = YamlFile(path)
    scale: Scale = check(Scale, file)
    file.refuse([file.problem(at, message) for at, message in findings(scale)])
    found = []
    for name, model in scale.models.items():
        if only in (None, name):
            shape = Shape.read(model.shape)
            try:
                plan = plan_sizes(model.mixture, scale, shape)
            except MixtureError as error:
                raise file.located(str(error)) from error
            refuse_other_size(shape)
            found += [
                f"models.{name}:",
                *(
                    f"  {line}"
                    for line in report(plan, shape, model.shape, scale.cluster, scale.mix)
                ),
            ]
    if not found:
        raise SystemExit(
            f"{path}: has no row `{only}` of models; rows are {', '.join(scale.models)}"
        )
    return found


if __name__ == "__main__":
    main()
