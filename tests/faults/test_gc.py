"""Garbage collection keeps what a build needs and what a killed one made, and never runs beside
one.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from safelm.builder import workspaces
from safelm.builder.files import remove_stale, temporary_directory
from safelm.builder.locks import all_stages_locked, locked
from tests.faults.damage import check_build
from tests.faults.forked import Forked
from tests.faults.test_errors import filled
from tests.faults.test_kills import until
from tests.faults.toy import SMALL, Toy


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
    assert not list(edited.root.glob("?*.dvc")) and not [
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


def test_collection_removes_what_ended_containers_were_making(edited: Toy) -> None:
    """Their process numbers say nothing here, so a build leaves these folders alone."""
    root = edited.root / ".dvc/cache/safelm"
    with temporary_directory(root, "0123") as folder:
        name = folder.name.split(".")
    dead = 2**22 + 1
    ended = root / f"{name[0]}.{'.'.join(name[1:-2])}.1.{dead}"
    for path in (ended, root / f"{'.'.join(name[:-1])}.{dead}"):
        path.mkdir(parents=True)
    remove_stale(root)
    assert list(root.iterdir()) == [ended]
    collect(edited)
    assert list(root.iterdir()) == []


def test_collection_waits_for_a_build_and_names_it(edited: Toy) -> None:
    with locked("score"):
        running = edited.start("pipeline", "gc")
        assert until(lambda: "waiting until it ends" in running.text)
        assert running.process.poll() is None
    assert running.wait() == 0 and "Traceback" not in running.text
    assert f"score: process {os.getpid()} is building it since 20" in running.text


def test_a_build_waits_for_a_collection_and_names_it(edited: Toy) -> None:
    with all_stages_locked("is collecting garbage"):
        running = edited.start("dvc", "repro")
        assert until(lambda: "waiting until it ends" in running.text)
    assert running.wait() == 0, running.text
    assert f"cache: process {os.getpid()} is collecting garbage since 20" in running.text


@pytest.fixture
def neighbour(finished: Toy, tmp_path: Path) -> Toy:
    """A second clone on the cache of `finished`, which has built other bytes into it."""
    shutil.rmtree(workspaces.folder())  # copied: the project that `finished` was copied from
    toy = Toy.make(tmp_path / "neighbour")
    config = toy.root / ".dvc/config"
    cache_dir = finished.root / ".dvc/cache"
    shared = f"[cache]\n    dir = {cache_dir}\n"
    config.write_text(config.read_text().replace("[cache]\n", shared))
    toy.edit("params.yaml", "rate: 0.5", "rate: 0.25")
    toy.build()
    return toy


def hours_ago(toy: Toy, hours: float) -> None:
    """Age everything that the index of a project knows."""
    then = time.time() - 3600 * hours
    for path in toy.root.glob(".safelm/index/??/*"):
        os.utime(path, (then, then))


def test_collection_keeps_what_another_clone_on_the_cache_has_built(
    finished: Toy, neighbour: Toy
) -> None:
    hours_ago(neighbour, 48)
    text = collect(finished, "--hours", "0")
    assert "1 other projects on this cache keep theirs" in text
    verified = neighbour.start("pipeline", "verify")
    assert verified.wait() == 0, verified.text


def test_collection_keeps_what_another_clone_has_not_finished(
    finished: Toy, neighbour: Toy
) -> None:
    neighbour.edit("params.yaml", "rate: 0.25", "rate: 0.125")
    assert neighbour.start("pipeline.tag", "unsafe").wait() == 0
    collect(finished, "--hours", "0")
    assert neighbour.made(neighbour.build("tag")) == {"tag/unsafe": 0}


def test_collection_is_refused_for_a_clone_that_cannot_be_read(
    finished: Toy, neighbour: Toy
) -> None:
    objects = sorted(finished.root.glob(".dvc/cache/files/md5/*/*"))
    (neighbour.root / "dvc.lock").write_text("stages: [")
    running = finished.start("pipeline", "gc", "--hours", "0")
    assert running.wait() == 1 and "Traceback" not in running.text
    assert str(neighbour.root) in running.text and "`make doctor` there" in running.text
    assert sorted(finished.root.glob(".dvc/cache/files/md5/*/*")) == objects


def test_collection_is_refused_for_a_clone_of_another_host(finished: Toy, neighbour: Toy) -> None:
    (file,) = set(workspaces.folder().glob("*.json")) - {workspaces.Workspace.here().file}
    values = json.loads(file.read_bytes())
    file.write_text(json.dumps({**values, "host": "elsewhere", "path": "/its/own/folder"}))
    running = finished.start("pipeline", "gc", "--hours", "0")
    assert running.wait() == 1
    assert "/its/own/folder on host elsewhere" in running.text


def test_a_clone_that_was_deleted_is_named_and_forgotten(finished: Toy, neighbour: Toy) -> None:
    shutil.rmtree(neighbour.root)
    assert f"{neighbour.root}: is gone" in collect(finished)
    assert "is gone" not in collect(finished)


def test_collection_waits_for_a_build_of_another_clone(finished: Toy, neighbour: Toy) -> None:
    held = Forked.start(neighbour.root, hold_until_told)
    assert until((neighbour.root / "held").exists)
    running = finished.start("pipeline", "gc")
    assert until(lambda: "waiting until it ends" in running.text)
    (neighbour.root / "go").touch()
    assert held.wait().code == 0 and running.wait() == 0
    assert f"{neighbour.root}: tag: process {held.process.pid} is building it" in running.text


def hold_until_told() -> None:
    """Hold the lock of a stage until the file `go` appears."""
    with locked("tag"):
        Path("held").touch()
        assert until(Path("go").exists)


def test_collection_frees_a_disk_without_a_free_byte(tmp_path: Path) -> None:
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=128m", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("may not mount a disk here")
    try:
        toy = Toy.make(folder / "toy", **SMALL)
        assert toy.start("pipeline.project").wait() == 0
        toy.edit("params.yaml", "rate: 0.5", "rate: 0.4")
        toy.build()
        filled(folder, 0)
        command = [sys.executable, "-m", "pipeline"]
        variables = toy.variables()
        gc = [*command, "gc", "--hours", "0"]
        done = subprocess.run(gc, cwd=toy.root, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert "freed " in done.stdout and "removed 0 of" not in done.stdout
        assert shutil.disk_usage(folder).free > 0
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)
