"""Number of cases that a fault test tries, and the small project that most of them break.

`@pytest.mark.cases(quick=6, full=200)` gives a test the argument `case`: a number, which seeds
everything that it draws.
"""

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.toy import Toy


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    marker = metafunc.definition.get_closest_marker("cases")
    if marker:
        number = marker.kwargs["full" if metafunc.config.getoption("--full") else "quick"]
        metafunc.parametrize("case", range(number))


@pytest.fixture(scope="session")
def count(pytestconfig: pytest.Config) -> Callable[[int, int], int]:
    """Return count(quick, full), which chooses by the option --full."""
    return lambda quick, full: full if pytestconfig.getoption("--full") else quick


@pytest.fixture(scope="session")
def oracle(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """The small project, built once without a fault: every other build of it must equal this one.

    It is only to be read.
    """
    toy = Toy.make(tmp_path_factory.mktemp("oracle") / "toy")
    toy.build()
    toy.check()
    return toy


@pytest.fixture
def toy(tmp_path: Path) -> Toy:
    """The small project, not built."""
    return Toy.make(tmp_path / "toy")


@pytest.fixture
def finished(oracle: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Toy]:
    """A copy of the finished build, with its links, that may be damaged."""
    root = tmp_path / "toy"
    subprocess.run(["cp", "-a", str(oracle.root), str(root)], check=True)
    monkeypatch.chdir(root)
    yield Toy(root)
    shutil.rmtree(root)
