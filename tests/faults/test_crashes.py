"""A build is killed at any of its file operations (K4).

Its files are whole or absent, and the next build equals the oracle.
"""

import random
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults import forked
from tests.faults.inject import Fault
from tests.faults.toy import State, Toy, small
from tests.faults.whole import torn


def edited(root: Path) -> Toy:
    """A built project with a row added: some shards are cached, some made, all installed anew."""
    toy = small(root)
    assert forked.build(toy).code == 0
    with (root / "web/01.jsonl").open("a") as file:
        file.write(
            '{"text": "How to steal the painting in street 9. First, wait. Then, take it."}\n'
        )
    return toy


PARTS = 50  # tests that share the operations, so that one sees how far it got
BEGINNINGS = {"fresh": small, "edited": edited}


@pytest.fixture(scope="module", params=BEGINNINGS)
def beginning(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Toy:
    return BEGINNINGS[request.param](tmp_path_factory.mktemp(request.param) / "toy")


@pytest.fixture(scope="module")
def expected(beginning: Toy, tmp_path_factory: pytest.TempPathFactory) -> tuple[State, list[str]]:
    """Build without a fault; return the state and the operations."""
    toy = beginning.copy(tmp_path_factory.mktemp("expected") / "toy")
    result = forked.build(toy, fault=Fault())
    assert result.code == 0, result.text
    return toy.state(), result.operations


def faults(operations: list[str]) -> list[Fault]:
    """List a kill before every operation, and one after every opened file, in a mixed order."""
    opened = [at for at, name in enumerate(operations, 1) if name.startswith("open ")]
    every = [Fault(at, "kill") for at in range(1, len(operations) + 1)]
    for at in opened:
        every += [Fault(at, "truncated"), Fault(at, "partial")]
    random.Random(4).shuffle(every)
    return every


@pytest.mark.cases(quick=3, full=PARTS)
def test_a_build_heals_after_a_kill_at_any_operation(
    case: int,
    beginning: Toy,
    expected: tuple[State, list[str]],
    count: Callable[[int, int], int],
    tmp_path: Path,
) -> None:
    state, operations = expected
    assert len(operations) > 100
    wrong = []
    for number, fault in enumerate(faults(operations)[case::PARTS][: count(3, 1000)]):
        toy = beginning.copy(tmp_path / str(number))
        killed = forked.build(toy, fault=fault)
        assert killed.code == -signal.SIGKILL, (fault, killed)
        left = torn(toy.root)
        again = forked.build(toy)
        if left or again.code or toy.state() != state:
            wrong.append((fault, operations[fault.at - 1], left, again.text[-300:]))
    print(f"K4: {number + 1} kills, {len(wrong)} wrong")
    assert wrong == []


def test_a_renamed_file_is_synced(expected: tuple[State, list[str]]) -> None:
    """A power loss after the rename of an unsynced file leaves an empty file of the right name."""
    named = [
        number
        for number, name in enumerate(expected[1])
        if name.startswith(("os.rename .dvc/cache/files", "os.rename .safelm/index"))
    ]
    assert len(named) > 4
    for number in named:
        _, target, source = expected[1][number].split()
        assert f"os.fsync {source}" in expected[1][:number]
        assert expected[1][number + 1] == f"os.fsync {Path(target).parent}"


def test_no_output_folder_is_emptied_in_place(expected: tuple[State, list[str]]) -> None:
    """A kill in the middle would leave half of it where a stage reads; so it is renamed first."""
    emptied = [
        name.split()[1]
        for name in expected[1]
        if name.startswith(("os.rmdir build/", "os.remove build/"))
    ]
    assert len(emptied) > 4
    assert [name for name in emptied if not name.startswith("build/.attempts/")] == []
