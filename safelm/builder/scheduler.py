"""Build the stages that are out of date, independent branches side by side."""

import os
import subprocess
import sys
import time
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import partial

from tqdm import tqdm

from safelm.builder.paths import scratch
from safelm.builder.workers import die_with_parent

DVC = [sys.executable, "-m", "dvc"]


BUSY = "is busy"  # another process reads or writes what a stage writes: try again


TRIES = 20


@dataclass(frozen=True)
class Group:
    """Stages that one DVC process builds, and the groups that must be finished before."""

    name: str
    stages: tuple[str, ...]
    needs: tuple[str, ...] = ()


def outdated() -> set[str]:
    """The stages that are out of date, and all that read of them."""
    from dvc.repo import Repo
    from dvc.repo.graph import get_subgraph_of_nodes

    with Repo() as repo:
        changed, graph = repo.status(), repo.index.graph
        stages = [stage for stage in graph if stage.addressing in changed]
        found = get_subgraph_of_nodes(graph, stages, downstream=True) if stages else ()
        return {stage.addressing for stage in found}


def narrowed(plan: Iterable[Group], stages: Collection[str]) -> list[Group]:
    """The groups with those of their stages alone that are to be built, and without groups that
    have none.
    """
    rows: dict[str, list[str]] = {}
    for stage in sorted(stages):
        for name in {stage, stage.partition("@")[0]}:
            rows.setdefault(name, []).append(stage)
    found = [
        replace(group, stages=tuple(stage for name in group.stages for stage in rows.get(name, [])))
        for group in plan
    ]
    names = {group.name for group in found if group.stages}
    return [
        replace(one, needs=tuple(need for need in one.needs if need in names))
        for one in found
        if one.stages
    ]


class Lane:
    """One running group."""

    def __init__(self, group: Group) -> None:
        self.group, self.tries, self.began = group, 0, time.monotonic()
        self.log = scratch("logs", f"{group.name}.log")
        self.log.parent.mkdir(parents=True, exist_ok=True)
        self.start()

    def start(self) -> None:
        """Start the group's DVC process, or start it again.

        It waits for DVC's lock, which a process that finds many stages up to date holds all the
        while."""
        self.tries += 1
        with self.log.open("w") as log:
            command = [*DVC, "--wait-for-lock", "repro", "--single-item", *self.group.stages]
            self.process = subprocess.Popen(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    def finished(self) -> bool:
        """Whether the group is built. Raises SystemExit with the end of its log when it failed."""
        code = self.process.poll()
        if code is None:
            return False
        text = self.log.read_text(errors="replace")
        if code == 0:
            tqdm.write(_summary(self.group, text, time.monotonic() - self.began))
            sys.stdout.flush()
            return True
        if self.tries < TRIES and BUSY in text:
            time.sleep(0.5)
            self.start()
            return False
        tail = "\n".join(text.splitlines()[-25:])
        raise SystemExit(
            f"{tail}\n\n{self.group.name} failed (exit code {code}); the whole log is {self.log}"
        )


def _summary(group: Group, log: str, seconds: float) -> str:
    """What the stages themselves printed, without DVC's own lines."""
    dvc = (
        "Running stage",
        "Generating lock",
        "Data and pipelines",
        "\tdvc config",
        "> python -m",
        "Stage '",
        "Updating lock",
        "To track",
        "\tgit add",
        "To enable",
        "Use `dvc push`",
    )
    lines = [
        line
        for line in log.splitlines()
        if line.strip() and not line.startswith(dvc) and "didn't change" not in line
    ]
    return "\n".join([*lines, f"{group.name:<28} {seconds:6.1f} s"])


def build(plan: list[Group], jobs: int) -> None:
    """Run the groups, at most `jobs` side by side, each after what it needs."""
    waiting, done = list(plan), set[str]()
    lanes: list[Lane] = []
    bar = tqdm(total=len(plan), unit="group", leave=False, disable=not sys.stderr.isatty())
    try:
        while waiting or lanes:
            ready = [group for group in waiting if done.issuperset(group.needs)]
            for group in ready[: jobs - len(lanes)]:
                waiting.remove(group)
                lanes.append(Lane(group))
                bar.set_description_str(", ".join(lane.group.name for lane in lanes))
            for lane in [lane for lane in lanes if lane.finished()]:
                lanes.remove(lane)
                done.add(lane.group.name)
                bar.update()
            time.sleep(0.05)
    finally:
        bar.close()
        for lane in lanes:
            lane.process.terminate()
        for lane in lanes:
            lane.process.wait()
