"""Bombs are refused with a reason, and take no more memory than a shard does."""

import json
import subprocess
import sys

import pytest

from tests.faults.bombs import BOMBS

WORDS = (
    "expansion",
    "unknown_packing",
    "too_long",
    "truncated",
    "no_text",
    "through its aliases",
    "deep",
    "documents {}",
)
LIMIT = 512  # megabytes


@pytest.fixture(scope="module")
def found(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    """Read every bomb, one after another, in a process of their own."""
    command = [sys.executable, "-m", "tests.faults.bombs", str(tmp_path_factory.mktemp("bombs"))]
    done = subprocess.run(command, capture_output=True, text=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(rows) == len(BOMBS), (rows[-1:], done.stderr[-2000:])
    return {row["name"]: row for row in rows}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_bounded_memory(found: dict[str, dict], name: str) -> None:
    row = found[name]
    assert any(word in row["found"] for word in WORDS), row
    assert row["megabytes"] < LIMIT, row
