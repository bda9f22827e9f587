"""Files that change under the same size and modification time, which DVC takes for unchanged."""

import os
import time
from pathlib import Path

import pytest

from safelm.builder import inputs
from safelm.builder.digest import SETTLED
from tests.faults.toy import SMALL, Toy

CODE = ("safelm/corpora/tagging.py", '"tag", document.id', '"tah", document.id')
SOURCE = ("web/00.jsonl", "The rose in garden", "The nose in garden")


def build(toy: Toy) -> str:
    running = toy.start("pipeline.project")
    assert running.wait() == 0, running.text
    return running.text


def edit_unseen(toy: Toy, name: str, old: str, new: str) -> None:
    """Overwrite a file in place with as many bytes, and set its time back."""
    path = toy.root / name
    before = path.stat()
    text = path.read_text(encoding="utf-8")
    assert old in text and len(old) == len(new)
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert after.st_mtime_ns == before.st_mtime_ns
    assert (after.st_ino, after.st_size) == (before.st_ino, before.st_size)


@pytest.mark.parametrize("change", [SOURCE, CODE], ids=["source", "code"])
def test_a_change_under_the_same_size_and_time_is_built(
    change: tuple[str, str, str], tmp_path: Path
) -> None:
    toy = Toy.make(tmp_path / "toy", **SMALL)
    build(toy)
    assert "everything is up to date" in build(toy)
    edit_unseen(toy, *change)
    made = toy.made(build(toy))
    fresh = Toy.make(tmp_path / "fresh", **SMALL)
    fresh.edit(*change)
    build(fresh)
    assert toy.state().files == fresh.state().files
    assert made["ingest/web" if change is SOURCE else "tag/unsafe"] >= 1


def test_a_settled_file_is_compared_by_inode_size_and_both_times(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = Path("module.py")
    path.write_text("x = 1")
    assert inputs.changed_inputs(inputs.stamp_inputs([path])) == ["module.py"]
    inputs.keep_stamps(inputs.stamp_inputs([path]))
    assert inputs.changed_inputs(inputs.stamp_inputs([path])) == ["module.py"]  # too young
    time.sleep(SETTLED / 1e9)
    inputs.keep_stamps(inputs.stamp_inputs([path]))
    assert inputs.changed_inputs(inputs.stamp_inputs([path])) == []
    cached = Path("__pycache__/module.cpython-311.pyc")
    cached.parent.mkdir()
    cached.touch()
    os.utime(path, ns=(0, path.stat().st_mtime_ns))
    time.sleep(SETTLED / 1e9)
    assert inputs.changed_inputs(inputs.stamp_inputs([path])) == ["module.py"]
    assert cached.name != Path(inputs.cache_from_source("module.py")).name or not cached.exists()
