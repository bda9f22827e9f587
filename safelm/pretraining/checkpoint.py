"""Checkpoints on disk: written aside, recorded by digest, renamed; only what its record vouches for
is ever loaded.

A checkpoint is a folder named by its step. It holds safetensors, JSON, YAML and CSV alone, and
`record.json`, which says which run it belongs to and the sha256 of every file."""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safelm.builder.digest import file_digest
from safelm.builder.files import link, rename_synced, write_synced

RECORD = "record.json"
CURVE = "loss.csv"  # the curve up to the step of the checkpoint
HELD_OUT = "held_out.csv"  # the loss on rows that are not read, at some steps up to it
READ = "read.json"  # rows and tokens that were given to the model up to it, by phase and part
KEPT = 2  # when the newest is damaged there is one before it


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose every file is as it was written."""

    step: int
    folder: Path

    @property
    def tokens(self) -> int:
        """How many tokens were read up to it."""
        return int((self.folder / CURVE).read_text(encoding="utf-8").splitlines()[-1].split(",")[1])


def commit(attempt: Path, target: Path, key: str) -> None:
    """Record the files of an attempt, sync them, and put the folder in its place with one rename."""
    files = {path.relative_to(attempt).as_posix(): _synced(path) for path in _files(attempt)}
    write_synced(
        attempt / RECORD,
        json.dumps({"key": key, "files": files}, indent=1, sort_keys=True).encode(),
    )
    _place(attempt, target)


def share(checkpoint: Path, target: Path, key: str) -> None:
    """The same checkpoint for other runs, under a key that they have in common: files are linked,
    not copied.
    """
    if target.exists():
        return
    attempt = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(attempt, ignore_errors=True)
    for path in _files(checkpoint):
        place = attempt / path.relative_to(checkpoint)
        place.parent.mkdir(parents=True, exist_ok=True)
        if path.name != RECORD:
            link(path, place)
    record = json.loads((checkpoint / RECORD).read_bytes())
    write_synced(
        attempt / RECORD, json.dumps({**record, "key": key}, indent=1, sort_keys=True).encode()
    )
    _place(attempt, target)


def newest(folder: Path, key: str) -> Checkpoint | None:
    """The last whole checkpoint of a run; one that is torn, changed or of another run is taken
    away.
    """
    steps = sorted(
        (int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit()), reverse=True
    )
    for step in steps:
        if is_whole(folder / str(step), key):
            return Checkpoint(step, folder / str(step))
        shutil.rmtree(folder / str(step))
    return None


def is_whole(folder: Path, key: str) -> bool:
    """Whether the record is of this key and every file, and no other, is as recorded."""
    try:
        record: dict[str, Any] = json.loads((folder / RECORD).read_bytes())
        return record["key"] == key and record["files"] == {
            path.relative_to(folder).as_posix(): file_digest(path) for path in _files(folder)
        }
    except (OSError, ValueError, KeyError, TypeError):
        return False


def forget(folder: Path) -> None:
    """Remove all but the last checkpoints of a run."""
    steps = sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit())
    for step in steps[:-KEPT]:
        shutil.rmtree(folder / str(step))


def _files(folder: Path) -> list[Path]:
    """Every file that a record lists."""
    return sorted(path for path in folder.rglob("*") if path.is_file() and path.name != RECORD)


def _synced(path: Path) -> str:
    with path.open("rb") as file:
        os.fsync(file.fileno())
    return file_digest(path)


def _place(attempt: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(target, ignore_errors=True)
    rename_synced(attempt, target)
