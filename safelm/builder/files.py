"""Files that are whole or not there: synced before they get their name, and shared between names
where links work.
"""

import errno
import fcntl
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
REMEDIES = {
    errno.ENOSPC: "make room (`make gc` removes what no build needs) and run it again",
    errno.EDQUOT: "the quota is used up: make room (`make gc` removes what no build needs) and run it again",
    errno.EFBIG: "the file system or a limit (`ulimit -f`) takes no file of this size",
    errno.EIO: "the disk does not answer: look into the system's log",
    errno.EROFS: "the file system is read-only: mount it for writing",
    errno.EACCES: "this user may not: look at the owner and the mode of the file and of its folder",
    errno.EPERM: "this user may not: look at the owner and the mode of the file and of its folder",
    errno.EMFILE: "too many open files: raise the limit (`ulimit -n 4096`)",
    errno.ENFILE: "the system has too many open files: end other programs",
}
FICLONE = 0x40049409  # linux/fs.h: the bytes of another file, shared until one of them is written
NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)


@contextmanager
def attach_filename(path: Path) -> Iterator[None]:
    """Give an error of the disk the name of the file: writing and syncing fail without one."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK:
            error.filename = error.filename or str(path)
        raise


def suggest_remedy(error: OSError) -> str:
    """What to do about an error of the disk, or of the system in front of it; if it is full, how
    much room there is.
    """
    todo = REMEDIES.get(error.errno or 0, "")
    if error.errno not in (errno.ENOSPC, errno.EDQUOT):
        return f"; {todo}" if todo else ""
    place = Path(error.filename or ".").absolute()
    folder = next(parent for parent in (place, *place.parents) if parent.is_dir())
    return f"; {shutil.disk_usage(folder).free:,} bytes free in {folder}: {todo}"


def write_synced(path: Path, data: bytes) -> None:
    """Write a small file through a temporary name, synced, so that it is never seen half-written."""
    temporary = path.with_name(f".{path.name}.{os.uname().nodename}.{os.getpid()}")
    try:
        with attach_filename(temporary), temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        rename_synced(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def rename_synced(source: Path, target: Path) -> None:
    """Give a synced file its name, also in the event of a power loss; what had the name is
    replaced.
    """
    os.replace(source, target)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder, and those that it is in, so that they are there after a power loss too."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with attach_filename(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(source: Path, target: Path) -> None:
    """The same bytes under a second name: a hard link; where none is possible a clone, else a copy."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        if not _clone(source, target):
            shutil.copyfile(source, target)


def _clone(source: Path, target: Path) -> bool:
    with source.open("rb") as old, target.open("wb") as new:
        try:
            fcntl.ioctl(new.fileno(), FICLONE, old.fileno())
        except OSError:
            return False
    return True


@contextmanager
def temporary_directory(parent: Path, name: str) -> Iterator[Path]:
    """An empty folder of this process alone, inside `parent`; what is left in it at the end is
    removed.
    """
    folder = parent / f"{name}.{os.uname().nodename}.{os.getpid()}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(parent: Path) -> None:
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


MD5 = re.compile(r"[0-9a-f]{32}")


SHA256 = re.compile(r"[0-9a-f]{64}")


NAME_BYTES = 255  # the longest name of a file that common file systems take


def is_safe_name(name: Any) -> bool:
    """Whether a name stays in the folder it is joined to: no `..`, no root, no NUL, no backslash,
    no empty part.
    """
    if not isinstance(name, str) or "\0" in name or "\\" in name:
        return False
    try:
        parts = [part.encode() for part in name.split("/")]
    except UnicodeEncodeError:
        return False
    return all(0 < len(part) <= NAME_BYTES and part not in (b".", b"..") for part in parts)


def is_digest(value: Any, pattern: re.Pattern[str] = MD5) -> bool:
    """Whether a value is a digest in hexadecimal, an md5 unless told otherwise."""
    return isinstance(value, str) and bool(pattern.fullmatch(value))
