"""Checkpoints on disk, written atomically and checked before they are loaded.

A checkpoint is a folder named by its step. It holds only safetensors, JSON, YAML and CSV, and a
`record.json` with the key of its run and the sha256 of every file.
"""

import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from safelm.builder.digest import file_digest
from safelm.builder.files import Json, link, make_parent, rename_synced, write_synced

RECORD = "record.json"
# The training loss up to the step of the checkpoint, and the loss on held-out rows.
CURVE = "loss.csv"
HELD_OUT = "held_out.csv"
# Rows and tokens read so far, by phase and part.
READ = "read.json"
# With two, a run whose newest checkpoint is damaged continues from the one before.
KEPT = 2


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose files match its record."""

    step: int
    folder: Path

    @property
    def tokens(self) -> int:
        """The tokens read up to the checkpoint."""
        lines = (self.folder / CURVE).read_text(encoding="utf-8").splitlines()
        # Columns: step, tokens, loss, learning rate.
        _, tokens, *_ = lines[-1].split(",")
        return int(tokens)


def commit(attempt: Path, target: Path, key: str) -> None:
    """Record and sync the files of a finished folder and rename it to `target`.

    Args:
        attempt: the folder with the new checkpoint.
        target: its final path, named by the step.
        key: the run's key.
    """
    # The files reach the disk before the record, and the record before the rename: after a power
    # cut a folder under its final name is complete.
    for path in _files(attempt):
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _write_record(attempt, {"key": key, "files": _digests(attempt)})
    _replace(attempt, target)


def share(checkpoint: Path, target: Path, key: str) -> None:
    """Link the files of a checkpoint to `target`, under a key that several runs have in common."""
    if target.exists():
        return
    # The process id, because other runs may share the same checkpoint at the same time.
    attempt = target.with_name(f".{target.name}.{os.getpid()}")
    shutil.rmtree(attempt, ignore_errors=True)
    for path in _files(checkpoint):
        linked = attempt / path.relative_to(checkpoint)
        make_parent(linked)
        link(path, linked)
    record = json.loads((checkpoint / RECORD).read_bytes())
    _write_record(attempt, {**record, "key": key})
    _replace(attempt, target)


def newest(folder: Path, key: str) -> Checkpoint | None:
    """Return the last intact checkpoint of a run, and remove later ones.

    Later ones are incomplete, changed, or belong to a run with another key.
    """
    for step in reversed(_steps(folder)):
        path = folder / str(step)
        if is_intact(path, key):
            return Checkpoint(step, path)
        shutil.rmtree(path)
    return None


def is_intact(folder: Path, key: str) -> bool:
    """Return whether the record has this key and lists exactly the files that are there."""
    try:
        record: Json = json.loads((folder / RECORD).read_bytes())
        return record["key"] == key and record["files"] == _digests(folder)
    except (OSError, ValueError, KeyError, TypeError):
        # The record is missing, or is no JSON object with these keys.
        return False


def remove_old(folder: Path) -> None:
    """Remove all but the last checkpoints of a run."""
    for step in _steps(folder)[:-KEPT]:
        shutil.rmtree(folder / str(step))


def _steps(folder: Path) -> list[int]:
    return sorted(int(path.name) for path in folder.glob("[0-9]*") if path.name.isdigit())


def _files(folder: Path) -> list[Path]:
    """Return the files that a record lists."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    return sorted(path for path in paths if path.name != RECORD)


def _digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): file_digest(path) for path in _files(folder)}


def _write_record(folder: Path, record: Json) -> None:
    text = json.dumps(record, indent=1, sort_keys=True)
    write_synced(folder / RECORD, text.encode())


def _replace(attempt: Path, target: Path) -> None:
    make_parent(target)
    # A folder cannot be renamed onto one that is not empty.
    shutil.rmtree(target, ignore_errors=True)
    rename_synced(attempt, target)
