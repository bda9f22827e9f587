"""Build stages that are out of date, independent ones side by side.

The graph is DVC's own. Every stage is built by `dvc repro --single-item`, which its locks allow to
run side by side. A DVC process needs seconds to load the graph before its first stage, so each gets
several stages at once where that holds up no other lane.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Collection, Iterator
from functools import cached_property, partial
from graphlib import TopologicalSorter

from tqdm import tqdm

from safelm.builder.dvc_locks import BUSY, Patience
from safelm.builder.environment import UNLIMITED, file_size_limit
from safelm.builder.files import make_parent
from safelm.builder.locks import StageError
from safelm.builder.manifest import CHANGED
from safelm.builder.paths import scratch
from safelm.builder.status import Needs
from safelm.builder.supervision import die_with_parent

DVC = [sys.executable, "-m", "dvc"]
SHOWN_LINES = 25  # of the log of a stage that failed
LARGEST_BATCH = 4  # stages of one kind that one process builds
LOOK = 5.0  # seconds between two looks at who else holds DVC's lock, for which lanes wait
SLOW = 20.0  # seconds of a stage beside which the start of a process does not count
# What DVC prints before it runs or skips a stage.
STARTS = re.compile(r"^(?:Running stage|Stage) '([^']+)'", re.MULTILINE)
CHATTER = re.compile(
    r"Running stage|Stage '|> python -m|Generating lock|Updating lock|To track|To enable|"
    r"\t(?:dvc config|git add)|Data and pipelines|Use `dvc push`|'[^']+' didn't change|"
    # An output of a table without rows, such as build/compare.
    r"WARNING: '[^']+' is empty|"
    r"waiting for "
)
# What a stage waits for, such as a server that is silent.
WAITING = re.compile(r"^waiting for .*$", re.MULTILINE)
# An error of a file that reached the limit of `ulimit -f`, as Python and SQLite word it.
TOO_LARGE = re.compile(r"File too large|disk I/O error")


def kind(stage: str) -> str:
    """Return the name that the branches of a stage share: tokenize of tokenize@math."""
    return stage.partition("@")[0]


class BuildError(StageError):
    """A stage failed; the message is the end of its log."""


class Schedule:
    """The stages that are still to be started, and which of them may start now.

    The longest way to the end of the graph goes first. Quick stages of one kind, such as tokenize@a
    and tokenize@b, share a process.
    """

    def __init__(self, needs: Needs, jobs: int) -> None:
        self.needs = needs
        self.jobs = jobs
        self.waiting = sorted(needs)
        self.done = set[str]()
        self.slow = set[str]()

    @cached_property
    def lengths(self) -> dict[str, int]:
        """Stages on the longest way from a stage to the end of the graph, itself included."""
        lengths = dict.fromkeys(self.needs, 1)
        # From the end of the graph: a stage is measured before those whose outputs it reads.
        for stage in reversed([*TopologicalSorter(self.needs).static_order()]):
            for needed in self.needs[stage]:
                lengths[needed] = max(lengths[needed], lengths[stage] + 1)
        return lengths

    def next_batch(self) -> list[str]:
        """Take the stages that one process builds next, in order; none where all must wait."""
        ready = self._ready(self.done)
        if not ready:
            return []
        longest = max(self.lengths[stage] for stage in ready)
        urgent = [stage for stage in ready if self.lengths[stage] == longest]
        first = kind(urgent[0])
        peers = [stage for stage in urgent if kind(stage) == first]
        # A fair share, so that the other lanes get some of them too.
        share = 1 if first in self.slow else max(1, len(peers) // self.jobs)
        batch = peers[: min(share, LARGEST_BATCH)]
        # A stage that waits for nothing but this batch follows it, unless there are several: those
        # may run side by side.
        while True:
            done = self.done.union(batch)
            followers = set(self._ready(done)).difference(ready, batch)
            if len(followers) != 1:
                break
            batch += followers
        self.waiting = [stage for stage in self.waiting if stage not in batch]
        return batch

    def record(self, stages: Collection[str], seconds: float) -> None:
        """Remember kinds of stages that take so long that each is worth a process."""
        each = seconds / len(stages)
        if each > SLOW:
            self.slow.update(map(kind, stages))

    def _ready(self, done: Collection[str]) -> list[str]:
        return [stage for stage in self.waiting if set(self.needs[stage]).issubset(done)]


class Lane:
    """A DVC process that builds a batch of stages, one after another."""

    def __init__(self, stages: list[str]) -> None:
        self.stages = stages
        self.seconds = 0.0
        self.patience = Patience()
        self.has_found_damage = False
        self.began = time.monotonic()
        self.log = scratch("logs", f"{stages[0]}.log")
        make_parent(self.log)
        self.start()

    def start(self) -> None:
        """Start the process, or start it again.

        It waits for DVC's lock: another process may hold it for a while to look at many stages.
        """
        self.shown = 0  # lines on what it waits for
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [*DVC, "--wait-for-lock", "repro", "--single-item", *self.stages],
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                preexec_fn=partial(die_with_parent, os.getpid()),
            )

    def check(self) -> list[str]:
        """List the stages that are built so far; all of them once the process has ended.

        Raises:
            BuildError: a stage failed.
        """
        code = self.process.poll()
        text = self.log.read_text(errors="replace")
        self._show_waiting(text)
        if code == 0:
            self.seconds = time.monotonic() - self.began
            return self.stages
        if code is None:
            return self._before(text)
        # A damaged intermediate was found, and its stage makes it again.
        is_damaged = CHANGED in text and not self.has_found_damage
        if is_damaged or (BUSY.search(text) and self.patience.pause()):
            self.has_found_damage |= is_damaged
            self.start()
            return []
        shown = "\n".join(text.splitlines()[-SHOWN_LINES:])
        if TOO_LARGE.search(text) and (limit := file_size_limit()):
            shown += f"\n\n`ulimit -f` {limit}; {UNLIMITED}"
        raise BuildError(f"{shown}\n\nthe build stopped here; the whole log is {self.log}")

    def _show_waiting(self, text: str) -> None:
        """Print what a stage waits for while it runs; its other lines are printed at its end."""
        lines = WAITING.findall(text)
        for line in lines[self.shown :]:
            tqdm.write(line)
            sys.stdout.flush()
        self.shown = len(lines)

    def _before(self, text: str) -> list[str]:
        """List the stages before the one that DVC started last."""
        started = [name for name in STARTS.findall(text) if name in self.stages]
        if not started:
            return []
        running = self.stages.index(started[-1])
        return self.stages[:running]

    def summary(self) -> str:
        """Return what the stages printed, without DVC's own lines, and the time they took."""
        lines = self.log.read_text(errors="replace").splitlines()
        printed = [line for line in lines if line.strip() and not CHATTER.match(line)]
        name = self.stages[0]
        if len(self.stages) > 1:
            name += f" and {len(self.stages) - 1} more"
        return "\n".join([*printed, f"{name:<28} {self.seconds:6.1f} s"])


def nothing() -> None:
    """Do nothing after a stage."""


def build(needs: Needs, jobs: int, after_each: Callable[[], None] = nothing) -> None:
    """Build stages in at most `jobs` lanes, each stage after those it needs.

    Args:
        after_each: called whenever a lane has ended.

    Raises:
        BuildError: a stage failed; the other lanes are stopped.
    """
    schedule = Schedule(needs, jobs)
    lanes: list[Lane] = []
    patience = Patience()
    looked = time.monotonic()
    bar = tqdm(total=len(needs), unit="stage", leave=False, disable=not sys.stderr.isatty())
    try:
        while schedule.waiting or lanes:
            # A copy, because lanes that have ended leave the list.
            for lane in list(lanes):
                schedule.done.update(lane.check())
                if lane.seconds:
                    schedule.record(lane.stages, lane.seconds)
                    tqdm.write(lane.summary())
                    sys.stdout.flush()
                    lanes.remove(lane)
                    after_each()
            lanes += _started(schedule, jobs - len(lanes))
            bar.set_description_str(", ".join(lane.stages[0] for lane in lanes))
            bar.update(len(schedule.done) - bar.n)
            if time.monotonic() - looked > LOOK:
                patience.name_holder()
                looked = time.monotonic()
            time.sleep(0.05)
    finally:
        bar.close()
        # All are told before one is waited for: a stage may take seconds to end.
        for lane in lanes:
            lane.process.terminate()
        for lane in lanes:
            lane.process.wait()


def _started(schedule: Schedule, free: int) -> Iterator[Lane]:
    for _ in range(free):
        if batch := schedule.next_batch():
            yield Lane(batch)
