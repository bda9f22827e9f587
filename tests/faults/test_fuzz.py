"""Valid files with random changes: rows are accounted for or refused."""

import json
import subprocess
import sys
from collections.abc import Callable

import pytest

from tests.faults.fuzz import KINDS


@pytest.fixture(scope="module")
def found(count: Callable[[int, int], int]) -> dict[str, dict]:
    """Read the mutants of each kind: 540 in all, or 20,007."""
    command = [sys.executable, "-m", "tests.faults.fuzz", "0", str(count(60, 2223))]
    done = subprocess.run(command, capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(rows) == len(KINDS), (done.returncode, done.stderr[-300:])
    return {row["kind"]: row for row in rows}


@pytest.mark.parametrize("kind", KINDS)
def test_a_mutant_is_accounted_for_or_refused(found: dict[str, dict], kind: str) -> None:
    assert found[kind]["wrong"] == [] and found[kind]["megabytes"] < 1024
