"""Atomic files: synced before they get their name, and linked instead of copied where possible."""

import errno
import fcntl
import json
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safelm.builder.supervision import is_alive

DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)
MAKE_ROOM = "make room (`make gc` removes what no build needs) and run it again"
NOT_PERMITTED = "check the owner and the mode of the file and of its folder"
REMEDIES = {
    errno.ENOSPC: MAKE_ROOM,
    errno.EDQUOT: f"the quota is used up: {MAKE_ROOM}",
    errno.EFBIG: "the file system or a limit (`ulimit -f`) does not allow a file of this size",
    errno.EIO: "the disk does not respond: check the system's log",
    errno.EROFS: "the file system is read-only: mount it for writing",
    errno.EACCES: NOT_PERMITTED,
    errno.EPERM: NOT_PERMITTED,
    errno.EMFILE: "too many open files: raise the limit (`ulimit -n 4096`)",
    errno.ENFILE: "the system has too many open files: end other programs",
}
# linux/fs.h: share the bytes of another file until one of the two is written.
FICLONE = 0x40049409
# Errors of os.link after which a clone or a copy can succeed; others, such as a full disk, cannot.
NO_LINK = (errno.EXDEV, errno.EPERM, errno.EMLINK, errno.ENOTSUP)
MD5 = re.compile(r"[0-9a-f]{32}")
SHA256 = re.compile(r"[0-9a-f]{64}")
Json = dict[str, Any]  # a JSON object
NAME_BYTES = 255  # the longest file name that common file systems take


@contextmanager
def attach_filename(path: Path) -> Iterator[None]:
    """Add the file's name to disk errors of the block: writing and syncing raise them without."""
    try:
        yield
    except OSError as error:
        if error.errno in DISK_ERRORS:
            error.filename = error.filename or str(path)
        raise


def suggest_remedy(error: OSError) -> str:
    """Return what to do about an error of the file system, with the free bytes of a full disk."""
    remedy = REMEDIES.get(error.errno or 0, "")
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        folder = nearest_folder(Path(error.filename or "."))
        return f"; {shutil.disk_usage(folder).free:,} bytes free in {folder}: {remedy}"
    return f"; {remedy}" if remedy else ""


def nearest_folder(path: Path) -> Path:
    """Return the innermost folder around a path, or the path itself, that exists."""
    path = path.absolute()
    return next(folder for folder in (path, *path.parents) if folder.is_dir())


def describe_error(error: BaseException) -> str:
    """Describe an error in at most 2,000 characters, with the remedy if one is known."""
    remedy = suggest_remedy(error) if isinstance(error, OSError) else ""
    return f"{type(error).__name__}: {error}{remedy}"[:2000]


def write_synced(path: Path, data: bytes) -> None:
    """Write a small file atomically: under a temporary name, then synced, then renamed.

    Its folder is made if it is missing.
    """
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{_process_name()}")
    try:
        with attach_filename(temporary), temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        rename_synced(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def write_json(path: Path, values: Any, *, indent: int = 1, sort_keys: bool = False) -> None:
    """Write a JSON value, indented and with a line feed at the end."""
    text = json.dumps(values, indent=indent, sort_keys=sort_keys)
    path.write_text(text + "\n", encoding="utf-8")


def rename_synced(source: Path, target: Path) -> None:
    """Rename a synced file, over an existing one too, so that the name survives a power loss."""
    os.replace(source, target)
    sync_folder(target.parent)


def make_folder(folder: Path) -> None:
    """Make a folder and its parents, so that they survive a power loss."""
    if not folder.is_dir():
        make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)


def make_parent(path: Path) -> None:
    """Make the folder of a file, which may be lost at a power loss."""
    path.parent.mkdir(parents=True, exist_ok=True)


def sync_folder(folder: Path) -> None:
    """Wait until the names in a folder are on disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with attach_filename(folder):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(source: Path, target: Path) -> None:
    """Give a file a second name: a hard link, or else a clone, or else a copy."""
    try:
        os.link(source, target)
    except OSError as error:
        if error.errno not in NO_LINK:
            raise
        # A symlink would do as well, but a program that writes through it damages the cache.
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
    """Provide an empty folder inside `parent`, of this process alone; remove it at the end."""
    folder = parent / f"{name}.{_process_name()}"
    # A killed process with the same number may have left it behind.
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def remove_stale(parent: Path) -> None:
    """Remove the temporary directories of processes of this machine that have died.

    Those of ended containers remain until `safelm gc`.
    """
    for folder in parent.glob("*"):
        if is_stale(folder.name):
            shutil.rmtree(folder, ignore_errors=True)


def is_stale(name: str) -> bool:
    """Return whether a temporary name belongs to a process of this machine that has died."""
    rest, _, process = name.rpartition(".")
    # The folder may be shared, and whether a process of another machine lives is not known here.
    is_counted_here = rest.endswith(f".{_numbering()}")
    return is_counted_here and process.isdecimal() and not is_alive(int(process))


def _process_name() -> str:
    return f"{_numbering()}.{os.getpid()}"


def _numbering() -> str:
    """Name the place in which process numbers count: each container of a host has its own."""
    return f"{os.uname().nodename}.{os.stat('/proc/self/ns/pid').st_ino}"


def is_safe_name(name: Any) -> bool:
    """Return whether a name stays in the folder that it is joined to.

    It has no `..`, root, NUL, backslash or empty part, and no part longer than NAME_BYTES.
    """
    if not isinstance(name, str) or "\0" in name or "\\" in name:
        return False
    try:
        parts = name.encode().split(b"/")
    except UnicodeEncodeError:
        return False  # a lone surrogate, which names no file
    return all(part not in (b"", b".", b"..") and len(part) <= NAME_BYTES for part in parts)


def is_digest(value: Any, pattern: re.Pattern[str] = MD5) -> bool:
    """Return whether a value is a hexadecimal digest: an md5, or one of another `pattern`."""
    return isinstance(value, str) and pattern.fullmatch(value) is not None
