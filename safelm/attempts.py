"""Folders for one try each: whatever becomes of the process, nothing of a try that did not end is ever used."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def attempt(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder of this process alone, inside `parent`; what is left in it at the end is removed."""
    folder = parent / f"{name}.{os.uname().nodename}.{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def sweep(parent: Path) -> None:
    """Remove the tries of processes of this machine that have died."""
    for folder in parent.glob("*"):
        if is_dead(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def is_dead(name: str) -> bool:
    """Whether a name is that of a try of this machine whose process is no more."""
    rest, _, process = name.rpartition(".")
    if not rest.endswith(f".{os.uname().nodename}") or not process.isdigit():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except OSError:
        pass  # it is another user's, and alive
    return False
