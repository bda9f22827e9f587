"""Processes of a build are killed (K1 to K3).

The next build equals the oracle, no orphan works on, and nothing hangs.
"""

import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from datatrove.data import Document

from safelm.builder import run as executor
from safelm.builder.blocks import Block
from safelm.builder.executors import local
from safelm.documents.shards import WriteDocuments
from tests.faults import forked
from tests.faults.dags import Beside
from tests.faults.toy import PATIENCE, ROOT, Running, State, Toy, small
from tests.faults.whole import torn

# Workers also where there is little to read.
WIDE = ("safelm/builder/executors/local.py", "SMALL = 4 << 20", "SMALL = 0")
EDIT = (
    "safelm/text/tags.py",
    "chosen = [gap for gap in gaps if draw() < rate]",
    "chosen = gaps[::2]",
)


@pytest.fixture(scope="module")
def wide(oracle: Toy, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The small project, not built, whose stages start workers."""
    toy = Toy.make(tmp_path_factory.mktemp("wide") / "toy")
    toy.edit(*WIDE)
    return toy


@pytest.fixture(scope="module")
def edited(wide: Toy, tmp_path_factory: pytest.TempPathFactory) -> State:
    """The state of the project after an edit of its code."""
    toy = wide.copy(tmp_path_factory.mktemp("edited") / "toy")
    toy.edit(*EDIT)
    toy.build()
    return toy.state()


def until(is_so: Callable[[], bool], seconds: float = PATIENCE) -> bool:
    """Wait for a condition; return whether it came."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if is_so():
            return True
        time.sleep(0.02)
    return False


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def commands(running: Running) -> dict[int, str]:
    """List the processes of a build with their command lines."""
    found = {}
    for pid in running.members():
        try:
            found[pid] = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
        except OSError:
            continue
    return found


def progress(toy: Toy) -> int:
    """Measure how much a build has done by its index entries and folders."""
    return len([*toy.root.glob(".safelm/index/??/*.json"), *toy.root.glob("build/*")])


def kill_at(toy: Toy, running: Running, steps: int, delay: float) -> None:
    """Kill all of a build a moment after it has come so far, or has ended."""
    until(lambda: progress(toy) >= steps or running.process.poll() is not None)
    time.sleep(delay)
    running.kill_group()


@pytest.mark.cases(quick=1, full=30)
def test_a_build_heals_after_a_kill_of_all_its_processes(
    case: int, wide: Toy, oracle: Toy, tmp_path: Path
) -> None:
    draw = random.Random(case)
    toy = wide.copy(tmp_path / "toy")
    for _ in range(draw.choice([1, 1, 1, 2, 3, 4])):
        kill_at(toy, toy.repro(), progress(toy) + draw.randrange(0, 16), draw.uniform(0, 0.3))
        assert torn(toy.root) == []
    toy.build()
    assert toy.state().files == oracle.state().files
    toy.check()


@pytest.mark.cases(quick=6, full=200)
def test_a_build_without_dvc_heals_after_a_kill_at_any_time(
    case: int, plain: tuple[State, float], tmp_path: Path
) -> None:
    state, seconds = plain
    draw = random.Random(case)
    toy = small(tmp_path / "toy")
    for _ in range(draw.choice([1] * 8 + [2, 3, 4])):
        forked.run(toy.root, stages_killed_after, draw.uniform(0, seconds))
        assert torn(toy.root) == []
    again = forked.build(toy)
    assert again.code == 0, again.text
    assert toy.state() == state


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[State, float]:
    """Run the stages without DVC; return the state and the processor time."""
    toy = small(tmp_path_factory.mktemp("plain") / "toy")
    result = forked.run(toy.root, stages_timed)
    assert result.code == 0, result.text
    return toy.state(), float(result.text.split()[-1])


def stages_timed() -> None:
    forked.stages(*forked.STAGES)
    print(time.process_time())


def stages_killed_after(seconds: float) -> None:
    """Run the stages, killed after so much processor time, which a busy machine does not shift."""
    signal.setitimer(signal.ITIMER_PROF, max(seconds, 0.001))
    forked.stages(*forked.STAGES)


@pytest.mark.cases(quick=1, full=50)
def test_no_orphan_of_a_killed_dvc_mixes_versions(
    case: int, wide: Toy, oracle: Toy, edited: State, tmp_path: Path
) -> None:
    draw, is_edited = random.Random(case), case % 2 == 0
    toy = wide.copy(tmp_path / "toy")
    first = toy.repro()
    stage = draw.choice(["ingest", "score", "tag", "tokenizer"])
    until(
        lambda: (
            any(f"pipeline.{stage}" in line for line in commands(first).values())
            or first.process.poll() is not None
        )
    )
    time.sleep(draw.uniform(0, 0.5))
    first.kill_parent()
    if is_edited:
        toy.edit(*EDIT)
    second = toy.repro()
    time.sleep(2)
    orphans = commands(first)
    code = second.wait()
    if orphans:
        assert code != 0 and any(str(pid) in second.text for pid in orphans), (orphans, second.text)
    if code:
        until(lambda: not first.members())
        toy.build()
    assert toy.state().files == (edited if is_edited else oracle.state()).files


@pytest.fixture(scope="module")
def scored(wide: Toy, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The small project with everything that the stage tag reads."""
    toy = wide.copy(tmp_path_factory.mktemp("scored") / "toy")
    assert forked.build(toy, "ingest web", "clean web", "score web").code == 0
    return toy


DEATHS = (
    signal.SIGKILL,
    signal.SIGSEGV,
    signal.SIGABRT,
    signal.SIGTERM,
)  # the first is what the system does for memory


@pytest.mark.cases(quick=2, full=50)
def test_a_worker_that_dies_is_an_error_that_names_its_shard(
    case: int, scored: Toy, tmp_path: Path
) -> None:
    draw, death = random.Random(case), DEATHS[case % len(DEATHS)]
    toy = scored.copy(tmp_path / "toy")
    before = len(records(toy))
    stage = toy.start("pipeline.tag", "unsafe")
    until(
        lambda: (
            (bool(workers(stage)) and len(records(toy)) >= before + case % 3)
            or stage.process.poll() is not None
        )
    )
    time.sleep(draw.uniform(0, 0.5) if case % 3 == 0 else 0)
    victims = workers(stage)
    assert victims, stage.text
    os.kill(draw.choice(victims), death)
    killed = time.monotonic()
    code = stage.wait()
    print(f"K3: {death.name}: {time.monotonic() - killed:.1f} s")
    if code:
        assert re.search(
            rf"tag/unsafe: shard \d+-\d+: its worker died \({death.name}\)", stage.text
        ), stage.text
    assert until(lambda: not stage.members(), 10)
    left = 8 - (len(records(toy)) - before)
    again = toy.start("pipeline.tag", "unsafe")
    assert again.wait() == 0, again.text
    assert toy.made(again.text) == {"tag/unsafe": left}
    assert torn(toy.root) == []


def test_workers_die_with_their_stage(tmp_path: Path) -> None:
    """They die in the middle of a shard as well."""
    for number in range(2):
        (tmp_path / f"{number}.txt").write_text("a line\n")
    stage = forked.Forked.start(tmp_path, sleepy, SAFELM_WORKERS="2")
    assert until(lambda: len(list(tmp_path.glob("asleep-*"))) == 2)
    pids = [int(path.name.partition("-")[2]) for path in tmp_path.glob("asleep-*")]
    assert stage.process.pid
    os.kill(stage.process.pid, signal.SIGKILL)
    assert until(lambda: not any(map(is_alive, pids)), 20)


@pytest.mark.parametrize("shell", ["/bin/bash", "/bin/sh"])
def test_stages_die_with_their_dvc(shell: str, tmp_path: Path) -> None:
    """A stage that has read nothing yet dies as well, and one under a shell that stays in between
    (Debian's /bin/sh does).
    """
    imports = "import pipeline, os, pathlib, time"
    say = f"{imports}; pathlib.Path(str(os.getpid())).touch(); time.sleep(600)"
    (tmp_path / "dvc.yaml").write_text(
        json.dumps({"stages": {"sleepy": {"cmd": f"{sys.executable} -c '{say}'"}}})
    )
    subprocess.run(
        [sys.executable, "-m", "dvc", "init", "-q", "--no-scm"], cwd=tmp_path, check=True
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SHELL": shell}
    dvc = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro"],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.DEVNULL,
    )
    assert until(lambda: any(path.name.isdecimal() for path in tmp_path.iterdir()))
    stage = next(int(path.name) for path in tmp_path.iterdir() if path.name.isdecimal())
    dvc.kill()
    dvc.wait()
    is_stale = until(lambda: not is_alive(stage), 10)
    if not is_stale:
        os.kill(stage, signal.SIGKILL)
    assert is_stale


class Sleep(Block):
    """A block that says who sleeps, and sleeps."""

    def process(self, document: Document) -> Iterator[Document]:
        Path(f"asleep-{os.getpid()}").touch()
        time.sleep(PATIENCE)
        yield document


def sleepy() -> None:
    local.SMALL = 0
    Path("lines").mkdir()
    for path in Path().glob("*.txt"):
        path.rename(Path("lines") / path.name)
    executor.run("sleepy", [Beside(lines="lines"), Sleep(), WriteDocuments()])


def records(toy: Toy) -> list[Path]:
    return [
        path for path in toy.root.glob(".safelm/index/??/*.json") if not path.name.startswith(".")
    ]


def workers(stage: Running) -> list[int]:
    return [pid for pid, line in commands(stage).items() if "spawn_main" in line]


@pytest.mark.cases(quick=1, full=20)
def test_a_killed_stage_redoes_at_most_one_shard_a_worker(
    case: int, scored: Toy, tmp_path: Path
) -> None:
    """When four of five shards are finished, the next build makes the others only (R1)."""
    toy = scored.copy(tmp_path / "toy")
    before = len(records(toy))
    stage = toy.start("pipeline.tag", "unsafe")
    until(lambda: len(records(toy)) >= before + 6 or stage.process.poll() is not None)
    stage.kill_group()
    finished = len(records(toy)) - before
    assert finished >= 6
    again = toy.start("pipeline.tag", "unsafe")
    assert again.wait() == 0, again.text
    assert toy.made(again.text) == {"tag/unsafe": 8 - finished}
