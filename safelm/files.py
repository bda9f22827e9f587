"""Files that are whole or not there: synced before they get their name, and shared between names where links work."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


@contextmanager
def named(path: Path) -> Iterator[None]:
    """Give an error of the disk the name of the file: writing and syncing fail without one."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK:
            error.filename = error.filename or str(path)
        raise


def room(error: OSError) -> str:
    """How much is left of the disk, where that is why an operation failed."""
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return ""
    place = Path(error.filename or ".").absolute()
    folder = next(parent for parent in (place, *place.parents) if parent.is_dir())
    return f"; {shutil.disk_usage(folder).free:,} bytes free in {folder}"


def write_synced(path: Path, data: bytes) -> None:
    """Write a small file through a temporary name, synced, so that it is never seen half-written."""
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    try:
        with named(temporary), temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        rename_synced(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def rename_synced(source: Path, target: Path) -> None:
    """Give a synced file its name, also in the event of a power loss; what had the name is replaced."""
    os.replace(source, target)
    sync_folder(target.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with named(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(source: Path, target: Path) -> None:
    """The same bytes under a second name: a hard link, or a copy where the file system has none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
