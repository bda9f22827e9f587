"""Digests say what a build is, not how it came about."""

from collections.abc import Callable
from pathlib import Path

import pytest

from pipeline.build import MD5_AND_SIZE, STAGE_BEGINS, normalize_lock_file
from tests.faults import damage
from tests.faults.histories import History, Machine, difference, start, toggle
from tests.faults.test_kills import until


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Machine:
    return Machine(tmp_path_factory.mktemp("histories"))


@pytest.mark.cases(quick=3, full=200)
def test_every_history_ends_like_a_straight_build(case: int, machine: Machine) -> None:
    machine.run(case)


def kill_and_resume(history: History) -> None:
    """Kill the audit when some shards of its sample are judged, and others not."""
    history.call("dvc", "repro", "score", workers=2)
    before = len(index(history))
    stage = start(history.toy, "pipeline.audit", "web")
    until(lambda: len(index(history)) > before or not stage.process.is_alive())
    stage.process.kill()
    stage.wait()
    assert len(index(history)) > before


def take_an_edit_back(history: History) -> None:
    for _ in range(2):
        toggle(history, "value of audit")
        history.call("dvc", "repro")


def damage_and_repair(history: History) -> None:
    """Lose one of the judged shards and all that was made of them."""
    history.call("dvc", "repro")
    for name in ("build/audit/web/audit.json", "build/audit/web/judged/00001-00000.parquet"):
        (path,) = history.toy.root.glob(name)
        damage.overwrite(path, b"damaged")
    history.call("pipeline", "verify", "--repair")


def index(history: History) -> list[Path]:
    return list(history.toy.root.glob(".safelm/index/??/[!.]*.json"))


@pytest.mark.parametrize("happen", [kill_and_resume, take_an_edit_back, damage_and_repair])
def test_digests_do_not_say_what_happened(
    happen: Callable[[History], None], machine: Machine, tmp_path: Path
) -> None:
    history = History(machine.base, machine.seconds, 0, tmp_path)
    happen(history)
    history.call("pipeline", "build")
    assert not difference(history.toy.state(), machine.state)


def test_the_stages_of_a_lock_file_are_sorted(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DVC has them in the order in which they were first built."""
    assert machine.state.lock
    head, *stages = STAGE_BEGINS.split(machine.state.lock)
    monkeypatch.chdir(tmp_path)
    Path("dvc.lock").write_text(head + "".join(reversed(stages)))
    normalize_lock_file()
    assert Path("dvc.lock").read_text() == machine.state.lock


def test_a_lock_file_has_the_true_size_of_what_was_read_damaged(
    machine: Machine, tmp_path: Path
) -> None:
    """DVC takes the digest from its database, and the size from a truncated file."""
    history = History(machine.base, machine.seconds, 0, tmp_path)
    history.call("pipeline", "build")
    lock = history.toy.root / "dvc.lock"
    text = lock.read_text()
    entry = next(entry for entry in MD5_AND_SIZE.finditer(text) if text.count(entry[1]) > 1)
    assert entry[1].endswith(".dir")
    lock.write_text(text[: entry.start(3)] + "7" + text[entry.end(3) :])
    history.call("pipeline", "build")
    assert not difference(history.toy.state(), machine.state)
