"""Build everything that is out of date, independent branches side by side.

    python -m pipeline          what `make repro` calls
    python -m pipeline --jobs 1 one branch after another

What is out of date, and all that reads it, is asked of DVC once; stages beside it are not looked at
again.

`dvc repro` builds the same, bit for bit, one stage after another. Here groups of stages that do not
need each other run as separate `dvc repro --single-item` processes, which DVC's locks allow; what
each prints goes to .safelm/logs."""

import argparse
import subprocess
import time
from pathlib import Path

from safelm.builder.environment import workers
from safelm.builder.scheduler import DVC, Group, build, narrowed, outdated
from safelm.maintenance.doctor.dvc import dvc_responds
from safelm.maintenance.doctor.examine import check_before_build
from specs.validation import problems
from specs.params import Params

STAGES = ("pretrain", "instruct", "finetune")  # of a model, each evaluated


def groups(models: list[str], jobs: int) -> list[Group]:
    """The DAG in groups, the longest branches first.

    A few models are trained and evaluated stage by stage, so that all lanes are busy to the end.
    Many, four a lane or more, are a group each: a DVC process reads the whole DAG before its first
    stage, seconds that hold up the others."""
    data = (
        "ingest",
        "annotate",
        "fit",
        "score",
        "audit",
        "rephrase",
        "refuse",
        "educate",
        "tag",
        "tokenizer",
    )
    plan = [Group("documents", data), Group("tokens", ("tokenize", "mix"), ("documents",))]
    cards = Group("cards", ("card", "overlap"), ("documents",))

    def beyond(tuned: str, finetuned: str) -> list[Group]:
        waits = {"relearn": tuned, "attack": finetuned}
        return [
            Group(stage, (stage,), tuple(f"{before}{model}" for model in models))
            for stage, before in waits.items()
        ]

    if len(models) >= 4 * jobs:
        whole = {
            model: (
                *(f"{stage}@{model}" for stage in STAGES),
                *(f"evaluate@{model}-{stage}" for stage in STAGES),
            )
            for model in models
        }
        return [
            *plan,
            *(Group(model, branch, ("tokens",)) for model, branch in whole.items()),
            *beyond("", ""),
            cards,
        ]
    for stage, before in (("pretrain", None), ("instruct", "pretrain"), ("finetune", "instruct")):
        for model in models:
            plan.append(
                Group(
                    f"{stage}@{model}",
                    (f"{stage}@{model}",),
                    (f"{before}@{model}" if before else "tokens",),
                )
            )
    for stage in STAGES:
        for model in models:
            plan.append(
                Group(
                    f"evaluate@{model}-{stage}",
                    (f"evaluate@{model}-{stage}",),
                    (f"{stage}@{model}",),
                )
            )
    return [*plan, *beyond("instruct@", "finetune@"), cards]


def main() -> None:
    """Check params.yaml, stop if all is up to date, build the groups, then let DVC confirm the
    whole DAG.
    """
    parser = argparse.ArgumentParser(
        prog="python -m pipeline",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument(
        "--jobs", type=int, default=workers(), help="groups built side by side (default: the cores)"
    )
    jobs = max(1, parser.parse_args().jobs)
    if found := check_before_build() or problems():
        raise SystemExit("\n".join(map(str, found)))
    began = time.monotonic()
    try:
        stale = outdated()
    except (
        Exception
    ) as error:  # DVC's own, or SQLite's of its databases: `answer` knows the remedies
        raise SystemExit("\n".join(map(str, dvc_responds())) or f"DVC: {error}") from error
    if stale:
        build(narrowed(groups(list(Params.read("models").models), jobs), stale), jobs)
        subprocess.run([*DVC, "repro", "--quiet"], check=True)
        print(f"built in {time.monotonic() - began:.0f} s")
    else:
        print("everything is up to date")
    print(f"the report: {Path('build/report/index.html')}")


if __name__ == "__main__":
    main()
