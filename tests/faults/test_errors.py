"""A file operation fails, or the disk is full (K5, K6).

The build names the place, and the next one goes on with what is there.
"""

import errno
import os
import random
import re
import resource
import subprocess
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.faults import forked
from tests.faults.inject import UNNAMED, Fault
from tests.faults.test_crashes import PARTS
from tests.faults.toy import State, small
from tests.faults.whole import torn

NUMBERS = (errno.ENOSPC, errno.EIO, errno.EACCES, errno.EMFILE)
# What a temporary name ends in.
PROCESS = re.compile(rf"\.{re.escape(os.uname().nodename)}\.\d+\.\d+")
OURS = re.compile(r"Error: \[Errno \d+\] [^:]+: '[^']*(?:build|\.dvc|\.safelm)[/']")
FREE = re.compile(r"[\d,.]+ (?:bytes|[KMGT]i?B) (?:are )?free")


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> tuple[State, list[str]]:
    toy = small(tmp_path_factory.mktemp("expected") / "toy")
    result = forked.build(toy, fault=Fault())
    assert result.code == 0, result.text
    return toy.state(), result.operations


def errors(operations: list[str]) -> list[Fault]:
    """List every operation with every error that it can have; writes have those of disks alone."""
    every = []
    for at, name in enumerate(operations, 1):
        codes = NUMBERS[:2] if name.startswith(UNNAMED) else NUMBERS
        for code, is_lasting in product(codes, (False, True)):
            every.append(Fault(at, "error", code, is_lasting))
    random.Random(5).shuffle(every)
    return every


def is_named(fault: Fault, operation: str, text: str) -> bool:
    """Return whether a message names the path, or the folder of a temporary name.

    Where every later operation fails too, one that was not needed may be skipped, and the next one
    is named.
    """
    text, path = PROCESS.sub("", text), Path(PROCESS.sub("", operation.split()[1]))
    is_said = str(path) in text or path.name in text or str(path.parent) in text
    return is_said or (fault.is_lasting and OURS.search(text) is not None)


@pytest.mark.cases(quick=4, full=PARTS)
def test_an_error_at_any_operation_is_reported_and_healed(
    case: int, expected: tuple[State, list[str]], count: Callable[[int, int], int], tmp_path: Path
) -> None:
    state, operations = expected
    wrong, survived = [], 0
    for number, fault in enumerate(errors(operations)[case::PARTS][: count(3, 1000)]):
        toy = small(tmp_path / str(number))
        failed = forked.build(toy, fault=fault)
        operation = operations[fault.at - 1]
        faults = [f"left {left}" for left in torn(toy.root)]
        if failed.code == 0:
            survived += 1
            faults += ["exit code 0 with another result"] if toy.state() != state else []
        else:
            faults += [] if failed.code == 1 else [f"ended by {failed.code}"]
            faults += [] if is_named(fault, operation, failed.text) else ["does not say where"]
            faults += (
                ["does not say how much is free"]
                if fault.number == errno.ENOSPC and not FREE.search(failed.text)
                else []
            )
        again = forked.build(toy)
        faults += [f"rerun: {again.text[-300:]}"] if again.code or toy.state() != state else []
        if faults:
            wrong.append((fault, operation, faults, failed.text[-300:]))
    print(f"K5: {number + 1} errors, {survived} survived, {len(wrong)} wrong")
    assert wrong == [], "\n\n".join(map(str, wrong[:5]))


def limited(size: int, *commands: str) -> None:
    """Run the stages with a limit on the size of a file, so that a write fails in the middle."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
    forked.stages(*commands)


def test_a_write_that_fails_in_the_middle_leaves_nothing_torn(
    expected: tuple[State, list[str]], count: Callable[[int, int], int], tmp_path: Path
) -> None:
    sizes = [200, 1500, 3000] if count(0, 1) == 0 else range(100, 4000, 130)
    for size in sizes:
        toy = small(tmp_path / str(size))
        failed = forked.run(toy.root, limited, size, *forked.STAGES)
        assert failed.code == 1, (size, failed.text)
        assert torn(toy.root) == [], size
        assert forked.build(toy).code == 0
        assert toy.state() == expected[0], size


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    """A small disk of its own, if this user may mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", folder], capture_output=True
    )
    if mounted.returncode:
        pytest.skip("may not mount a disk here")
    yield folder
    subprocess.run(["umount", "-l", folder], check=True)


def filled(folder: Path, free: int) -> Path:
    """Fill the disk but for so many bytes."""
    left = os.statvfs(folder)
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(1, left.f_bavail * left.f_frsize - free))
    return ballast


@pytest.mark.cases(quick=3, full=20)
def test_a_full_disk_is_reported_and_healed(
    case: int, disk: Path, expected: tuple[State, list[str]]
) -> None:
    toy = small(disk / "toy")
    pages = (8, 40, 120)[case] if case < 3 else random.Random(case).randrange(0, 160)
    ballast = filled(disk, pages * 4096)
    failed = forked.build(toy)
    if failed.code == 0:
        assert toy.state() == expected[0]
    else:
        assert failed.code == 1
        assert FREE.search(failed.text), failed.text[-600:]
    assert torn(toy.root) == []
    ballast.unlink()
    again = forked.build(toy)
    assert again.code == 0, again.text
    assert toy.state() == expected[0]
