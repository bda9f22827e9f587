"""Collecting garbage takes neither what a build needs nor what a killed one had made, and never runs beside one."""

import subprocess
from pathlib import Path

import pytest

from safelm.executor import locked
from tests.faults.damage import look
from tests.faults.toy import Toy


@pytest.fixture
def built(oracle: Toy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Toy:
    """A copy of the finished build, with its links, in which `tag` was changed and made, but never committed."""
    root = tmp_path / "toy"
    subprocess.run(["cp", "-a", str(oracle.root), str(root)], check=True)
    monkeypatch.chdir(root)
    toy = Toy(root)
    toy.edit("params.yaml", "rate: 0.5", "rate: 0.4")
    assert toy.start("pipeline.tag").wait() == 0
    return toy


def collect(toy: Toy, *arguments: str) -> str:
    running = toy.start("safelm.gc", *arguments)
    assert running.wait() == 0, running.text
    return running.text


def test_a_killed_build_keeps_its_shards_for_a_day(built: Toy) -> None:
    (built.root / ".dvc/cache/files/md5/00").mkdir(exist_ok=True)
    (built.root / ".dvc/cache/files/md5/00" / ("1" * 30)).write_bytes(b"nobody needs this")
    assert "1 of " in collect(built)
    assert not (built.root / "unfinished.dvc").exists() and not [one for one in look().findings if one.md5]
    assert built.made(built.build("tag")) == {"tag": 0}


def test_everything_else_goes_when_asked(built: Toy, oracle: Toy) -> None:
    collect(built, "--hours", "0")
    assert not [finding for finding in look().findings if finding.md5]
    assert built.made(built.build("tag"))["tag"] > 0
    built.edit("params.yaml", "rate: 0.4", "rate: 0.5")
    built.build()
    assert built.state() == oracle.state()


def test_it_is_refused_beside_a_build(built: Toy) -> None:
    with locked("score"):
        running = built.start("safelm.gc")
        assert running.wait() == 1 and "is building score" in running.text
