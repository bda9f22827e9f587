"""Locks of stages: one process builds a stage, and none does while objects are moved or removed."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from safelm.builder.files import REMEDIES, describe_error
from safelm.builder.paths import scratch


class StageError(RuntimeError):
    """A stage could not be built; the message names stage or shard, cause and remedy."""


class LockedError(StageError):
    """Another process holds the lock of a stage; the message says which and what it does."""


@contextmanager
def locked(stage: str) -> Iterator[None]:
    """Hold the lock of a stage while it is built.

    Raises:
        LockedError: another process holds the lock.
        StageError: the block failed with an error of the file system, such as a full disk.
    """
    path = scratch("locks", stage.replace("/", "-"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _hold(path, stage, "is building it"):
            yield
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        raise StageError(f"{stage}: {describe_error(error)}") from error


@contextmanager
def all_stages_locked(activity: str) -> Iterator[None]:
    """Hold the lock of every stage that was ever built here; `activity` is shown to who waits.

    Raises:
        LockedError: another process holds one of them.
    """
    folder = scratch("locks")
    paths = sorted(folder.iterdir()) if folder.is_dir() else []
    with ExitStack() as stack:
        for path in paths:
            stack.enter_context(_hold(path, path.name, activity))
        yield


@contextmanager
def _hold(path: Path, stage: str, activity: str) -> Iterator[None]:
    # The file stays when the lock is released: another process may be waiting on its inode.
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise LockedError(
                f"{stage}: {_holder(path)}; wait until it ends or stop it, then try again"
            ) from None
        file.truncate(0)
        file.write(f"process {os.getpid()} {activity}")
        file.flush()
        yield


def _holder(path: Path) -> str:
    """Read who holds a lock, which is written a moment after the lock is taken."""
    for _ in range(100):
        if holder := path.read_text().strip():
            return holder
        time.sleep(0.01)
    return "another process holds its lock"
