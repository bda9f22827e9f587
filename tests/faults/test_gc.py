"""Garbage collection keeps what a build needs and what a killed one made, and never runs beside
one.
"""

import pytest

from safelm.builder.locks import locked
from tests.faults.damage import check_build
from tests.faults.toy import Toy


@pytest.fixture
def edited(finished: Toy) -> Toy:
    """A finished build in which `tag` was changed and made, but never committed."""
    finished.edit("params.yaml", "rate: 0.5", "rate: 0.4")
    assert finished.start("pipeline.tag", "unsafe").wait() == 0
    return finished


def collect(toy: Toy, *arguments: str) -> str:
    running = toy.start("pipeline", "gc", *arguments)
    assert running.wait() == 0, running.text
    return running.text


def test_a_killed_build_keeps_its_shards_for_a_day(edited: Toy) -> None:
    (edited.root / ".dvc/cache/files/md5/00").mkdir(exist_ok=True)
    (edited.root / ".dvc/cache/files/md5/00" / ("1" * 30)).write_bytes(b"nobody needs this")
    assert "1 of " in collect(edited)
    assert not (edited.root / "unfinished.dvc").exists() and not [
        one for one in check_build().findings if one.md5
    ]
    assert edited.made(edited.build("tag")) == {"tag/unsafe": 0}


def test_hours_0_removes_everything_else(edited: Toy, oracle: Toy) -> None:
    collect(edited, "--hours", "0")
    assert not [finding for finding in check_build().findings if finding.md5]
    assert edited.made(edited.build("tag"))["tag/unsafe"] > 0
    edited.edit("params.yaml", "rate: 0.4", "rate: 0.5")
    edited.build()
    assert edited.state() == oracle.state()


def test_collection_is_refused_beside_a_build(edited: Toy) -> None:
    with locked("score"):
        running = edited.start("pipeline", "gc")
        assert running.wait() == 1
        assert "score: process" in running.text and "is building it" in running.text
