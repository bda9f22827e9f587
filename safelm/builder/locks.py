"""Locks: one process builds a stage, and none does while objects are moved or removed.

The kernel frees a lock when its process ends, however it ends. Taken in this order, they cannot
make two processes wait for each other:

    .safelm/locks/project         shared by builds; held alone while build/ must not change
    <cache dir>/workspaces/cache  shared by what needs objects; held alone to remove some
    .safelm/locks/<stage>         held by the process that builds the stage
"""

import errno
import fcntl
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from safelm.builder import workspaces
from safelm.builder.files import REMEDIES, describe_error, make_parent
from safelm.builder.paths import scratch
from safelm.builder.supervision import is_alive

PAUSE = 0.1  # seconds between two tries
UNNAMED = 1.0  # seconds in which a process writes its name after it took a lock
HOLDER = re.compile(r"process (\d+) ")
READ_ONLY = (errno.EACCES, errno.EPERM, errno.EROFS)
Labelled = Iterator[tuple[str, Path]]  # lock files, and how messages call them


class StageError(RuntimeError):
    """A stage could not be built; the message names stage or shard, cause and remedy."""


class LockedError(StageError):
    """Another process holds the lock of a stage; the message says which and what it does."""


@contextmanager
def locked(stage: str, *, wait: bool = False) -> Iterator[None]:
    """Hold the lock of a stage while it is built.

    Args:
        wait: wait for another process that builds the stage. Maintenance is waited for anyway.

    Raises:
        LockedError: another process builds the stage.
        StageError: the block failed with an error of the file system, such as a full disk.
    """
    path = scratch("locks", stage.replace("/", "-"))
    try:
        with _shared(_project_lock()), _cache_shared(), _alone(path, "is building it", wait=wait):
            yield
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        raise StageError(f"{stage}: {describe_error(error)}") from error


@contextmanager
def project_locked(activity: str) -> Iterator[None]:
    """Wait until nothing is built here, and let nothing begin; `activity` is shown to who waits."""
    with _alone(_project_lock(), activity, _stage_locks, wait=True), _cache_shared():
        yield


@contextmanager
def all_stages_locked(activity: str, *, wait: bool = False) -> Iterator[None]:
    """Keep every project on the cache from building; `activity` is shown to who waits.

    Args:
        wait: wait for those that build now.

    Raises:
        LockedError: a build runs.
    """
    with _alone(_cache_lock(), activity, _all_stage_locks, wait=wait):
        yield


def _project_lock() -> Path:
    return scratch("locks", "project")


def _cache_lock() -> Path:
    return workspaces.folder() / "cache"


def _no_locks() -> Labelled:
    yield from ()


def _stage_locks() -> Labelled:
    """Yield the locks of stages; a process that holds one shares those of project and cache."""
    for path in sorted(scratch("locks").glob("*")):
        yield path.name, path


def _all_stage_locks() -> Labelled:
    yield from _stage_locks()
    for workspace in workspaces.workspaces():
        if workspace != workspaces.Workspace.here():
            for path in workspace.locks:
                yield f"{workspace.path}: {path.name}", path


@contextmanager
def _cache_shared() -> Iterator[None]:
    """Register the project, and share the lock of the cache."""
    with ExitStack() as stack:
        try:
            workspaces.register()
            stack.enter_context(_shared(_cache_lock()))
        except OSError as error:
            # What cannot be written to needs no lock: nobody removes its objects.
            if error.errno not in READ_ONLY:
                raise
        yield


@contextmanager
def _shared(path: Path) -> Iterator[None]:
    make_parent(path)
    # Not "w", which would erase the words of the process that holds the lock.
    with path.open("a+") as file:
        _take(file.fileno(), fcntl.LOCK_SH, path, _no_locks, wait=True)
        yield


@contextmanager
def _alone(
    path: Path,
    activity: str,
    sharers: Callable[[], Labelled] = _no_locks,
    *,
    wait: bool,
) -> Iterator[None]:
    make_parent(path)
    # The file stays when the lock is released: another process may be waiting on its inode.
    with path.open("a+") as file:
        _take(file.fileno(), fcntl.LOCK_EX, path, sharers, wait)
        file.truncate(0)
        words = f"process {os.getpid()} {activity} since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        # A full disk, which `safelm gc` is to empty: the lock is held without its words too.
        with suppress(OSError):
            os.write(file.fileno(), words.encode())
        try:
            yield
        finally:
            file.truncate(0)


def _take(
    descriptor: int,
    mode: int,
    path: Path,
    sharers: Callable[[], Labelled],
    wait: bool,
) -> None:
    """Lock a file, or name the process that holds it, or one that shares it."""
    began = time.monotonic()
    shown = ""
    while True:
        try:
            fcntl.flock(descriptor, mode | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            holder = _holder([(path.name, path), *sharers()])
        # A process writes its name a moment after it has taken a lock.
        if not holder and time.monotonic() - began > UNNAMED:
            holder = f"{path.name}: another process holds its lock"
        if holder and not wait:
            raise LockedError(f"{holder}; wait until it ends or stop it, then try again")
        if holder and holder != shown:
            print(f"{holder}; waiting until it ends", file=sys.stderr, flush=True)
            shown = holder
        time.sleep(PAUSE)


def _holder(files: list[tuple[str, Path]]) -> str:
    """Return what a living process has written into one of the files; "" if none has."""
    for label, path in files:
        words = path.read_text().strip() if path.is_file() else ""
        match = HOLDER.match(words)
        # A process that was killed has left its words there.
        if match and is_alive(int(match[1])):
            return f"{label}: {words}"
    return ""
