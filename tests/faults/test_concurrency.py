"""Several builds at once, one that is stopped, and locks without a holder (C1).

A second build waits, or is refused with the number of the first.
"""

import fcntl
import os
import random
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
import zc.lockfile

from safelm.maintenance.verify import command
from tests.faults import forked
from tests.faults.forked import Forked
from tests.faults.test_kills import until
from tests.faults.toy import SMALL, Toy, small
from tests.faults.whole import torn

BUSY = ("is building it", "is busy", "Unable to acquire lock")  # ours; DVC's


@pytest.fixture(scope="module")
def ready(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A project whose stages tag and rephrase can both be built."""
    toy = small(tmp_path_factory.mktemp("ready") / "toy")
    assert forked.build(toy, "ingest web", "clean web", "score web").code == 0
    return toy


@pytest.fixture(scope="module")
def expected(ready: Toy, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    toy = ready.copy(tmp_path_factory.mktemp("expected") / "toy")
    assert forked.build(toy, "tag unsafe", "rephrase safe_web", "tokenizer").code == 0
    return toy.state().files


def is_whole(toy: Toy, expected: dict[str, str]) -> None:
    assert torn(toy.root) == []
    again = forked.build(toy, "tag unsafe", "rephrase safe_web", "tokenizer")
    assert again.code == 0, again.text
    assert toy.state().files == expected


@pytest.mark.cases(quick=3, full=100)
def test_builds_at_once_refuse_each_other_by_number(
    case: int, ready: Toy, expected: dict[str, str], tmp_path: Path
) -> None:
    draw = random.Random(case)
    toy = ready.copy(tmp_path / "toy")
    builds: list[tuple[str, Forked]] = []
    for _ in range(draw.randrange(2, 9)):
        stage = draw.choice(["tag unsafe", "tag unsafe", "rephrase safe_web"])
        builds.append((stage, Forked.start(toy.root, forked.stages, stage)))
        time.sleep(draw.choice([0, 0, draw.uniform(0, 0.2)]))
    still = draw.choice(builds)[1].process.pid if case % 2 else None
    if still:
        with suppress(ProcessLookupError):  # it may have ended
            os.kill(still, signal.SIGSTOP)
            time.sleep(0.5)
            os.kill(still, signal.SIGCONT)
    results = [(stage, build.process.pid, build.wait()) for stage, build in builds]
    for stage in {stage for stage, _ in builds}:
        numbers = [number for name, number, result in results if name == stage and result.code == 0]
        assert numbers, results
        for name, _, result in results:
            if name == stage and result.code:
                assert any(f"process {number} {BUSY[0]}" in result.text for number in numbers), (
                    result.text
                )
    is_whole(toy, expected)


def test_a_stopped_build_is_named(ready: Toy, expected: dict[str, str], tmp_path: Path) -> None:
    toy = ready.copy(tmp_path / "toy")
    first = Forked.start(toy.root, stopped, "tag unsafe")
    while not (toy.root / "stopped").exists():
        time.sleep(0.02)
    second = forked.build(toy, "tag unsafe")
    assert second.code == 1
    assert f"process {first.process.pid} {BUSY[0]}" in second.text
    assert first.process.pid
    os.kill(first.process.pid, signal.SIGCONT)
    assert first.wait().code == 0
    is_whole(toy, expected)


def stopped(stage: str) -> None:
    """Start a stage that stops, as by SIGSTOP from a shell, when it has its lock."""
    from safelm.corpora.tagging import InsertTags

    begin = InsertTags.begin

    def begun(*arguments: object) -> None:
        if not Path("stopped").exists():
            Path("stopped").touch()
            os.kill(os.getpid(), signal.SIGSTOP)
        begin(*arguments)  # type: ignore[arg-type]

    InsertTags.begin = begun  # type: ignore[method-assign, assignment]
    forked.stages(stage)


@pytest.mark.parametrize(
    "content",
    ["", str(os.getpid()), "not a number"],
    ids=["none", "of a living process", "nonsense"],
)
def test_a_lock_file_without_a_holder_stops_no_build(
    content: str, ready: Toy, expected: dict[str, str], tmp_path: Path
) -> None:
    """The lock file holds any number, even that of a running process."""
    toy = ready.copy(tmp_path / "toy")
    (toy.root / ".safelm/locks/tag-unsafe").write_text(content)
    assert forked.build(toy, "tag unsafe").code == 0
    is_whole(toy, expected)


@pytest.mark.cases(quick=1, full=8)
def test_dvc_builds_at_once_lose_nothing(case: int, oracle: Toy, tmp_path: Path) -> None:
    toy = Toy.make(tmp_path / "toy")
    builds = [toy.repro() for _ in range(2 + case % 4)]
    codes = [build.wait() for build in builds]
    texts = "\n".join(build.text for build in builds)
    for build, code in zip(builds, codes, strict=True):
        assert code == 0 or any(words in build.text for words in BUSY), build.text
    toy.build()
    assert toy.state() == oracle.state(), texts


def test_a_group_waits_for_a_process_that_holds_the_lock_of_dvc(tmp_path: Path) -> None:
    """A process that checks hundreds of stages holds it longer than any number of tries lasts."""
    toy = Toy.make(tmp_path / "toy", **SMALL)
    (toy.root / ".dvc/tmp").mkdir()
    with (toy.root / ".dvc/tmp/lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        build = toy.start("pipeline.one")
        time.sleep(8)  # DVC itself gives up after three seconds
        assert build.process.poll() is None, build.text
    assert build.wait() == 0, build.text
    assert (toy.root / "build/ingest/web/manifest.json").is_file()


def assert_same(toy: Toy, oracle: Toy) -> None:
    """Compare two builds; the order of stages in dvc.lock is that in which they ended."""
    built, expected = toy.state(), oracle.state()
    assert built.files == expected.files
    assert yaml.safe_load(built.lock or "") == yaml.safe_load(expected.lock or "")


def test_builds_and_a_collection_at_once_wait_for_each_other(oracle: Toy, tmp_path: Path) -> None:
    toy = Toy.make(tmp_path / "toy")
    first = toy.start("pipeline.project")
    assert until(lambda: (toy.root / "dvc.lock").exists())
    others = [toy.start("pipeline", "gc"), toy.start("pipeline.project")]
    assert first.wait() == 0, first.text
    for other in others:
        assert other.wait() == 0, other.text
        assert f"build: process {first.process.pid} is building it since 20" in other.text
    assert "everything is up to date" in others[1].text
    assert_same(toy, oracle)


def test_a_build_waits_for_another_command_of_dvc_and_names_it(oracle: Toy, tmp_path: Path) -> None:
    toy = Toy.make(tmp_path / "toy")
    command = toy.repro("ingest")
    assert until(lambda: "Running stage" in command.text)
    build = toy.start("pipeline.project")
    assert build.wait() == 0, build.text
    assert command.wait() == 0, command.text
    assert f"DVC: process {command.process.pid} (`__main__.py repro ingest`) holds" in build.text
    assert_same(toy, oracle)


def test_verification_waits_for_a_pull_and_names_it(finished: Toy) -> None:
    """A pull that runs has removed an output and not put it back yet."""
    built, removed = finished.root / "build/tag", finished.root / "tag"
    pull = finished.root / ".dvc/tmp/lock"
    with pull.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.write(f" {os.getpid()}\n")
        lock.flush()
        os.rename(built, removed)
        verify = finished.start("pipeline", "verify")
        assert until(lambda: "holds its lock; waiting until it ends" in verify.text)
        os.rename(removed, built)
    assert verify.wait() == 0, verify.text
    assert f"DVC: process {os.getpid()}" in verify.text


def test_verification_begins_again_after_a_pull_that_ran_beside_it(
    finished: Toy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built, removed = finished.root / "build/tag", finished.root / "tag"
    os.rename(built, removed)
    checks = []

    def pull_after(*arguments: Any) -> Any:
        report = check(*arguments)
        checks.append(report.code)
        if removed.exists():
            os.rename(removed, built)
            zc.lockfile.LockFile(str(finished.root / ".dvc/tmp/lock")).close()
        return report

    check = command._check
    monkeypatch.setattr(command, "_check", pull_after)
    assert command.verify() == 0
    assert checks[0] and checks[1:] == [0]
    assert "missing" not in capsys.readouterr().out


# The first process of a container without an init: it starts a build, kills it in the middle of a
# stage without reaping anything, and starts it again.
NO_INIT = """
import os, pathlib, signal, subprocess, sys, time
build = [sys.executable, "-m", "pipeline.project"]
first = subprocess.Popen(build, start_new_session=True)
rwlock = pathlib.Path(".dvc/tmp/rwlock")
def is_building():
    made = list(pathlib.Path().glob(".safelm/index/??/*"))
    return made and rwlock.is_file() and b"write" in rwlock.read_bytes()
while not is_building():
    time.sleep(0.01)
os.killpg(first.pid, signal.SIGKILL)
time.sleep(1)
print("left:", rwlock.read_text(), flush=True)
sys.exit(subprocess.call(build))
"""


def test_a_build_goes_on_where_zombies_are_never_reaped(oracle: Toy, tmp_path: Path) -> None:
    isolated = ("unshare", "--pid", "--fork", "--mount-proc")
    if subprocess.run([*isolated, "true"], capture_output=True).returncode:
        pytest.skip("unshare --pid is not permitted here")
    toy = Toy.make(tmp_path / "toy")
    (toy.root / "container.py").write_text(NO_INIT)
    container = toy.start("container", prefix=isolated)
    assert container.wait() == 0, container.text
    assert "has ended: its process" in container.text and "is a zombie" in container.text
    assert_same(toy, oracle)
    # Outside, the numbers of the container's processes belong to others, or to none.
    toy.build()
    assert_same(toy, oracle)
