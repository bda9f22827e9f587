"""Stamps of sources and code, for changes that DVC and Python do not see.

DVC takes a file for unchanged that has the same inode, size and modification time; Python runs old
byte code of a module that has the same size and whole second. The kernel moves a file's ctime at
every change, and no program sets it back.
"""

import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from importlib.util import cache_from_source
from pathlib import Path

from safelm.builder.digest import SETTLED
from safelm.builder.files import write_synced
from safelm.builder.paths import scratch

FILE = scratch("inputs.json")
Stamps = Mapping[str, list[int]]  # by path: inode, size, mtime and ctime


def stamp_inputs(paths: Iterable[Path]) -> Stamps:
    """Take the stamps of files, and of the files in folders.

    A file that changed a moment ago gets none: its next change might have the same time.
    """
    settled = time.time_ns() - SETTLED
    stamps = {}
    for path in _files(paths):
        state = path.stat()
        if max(state.st_mtime_ns, state.st_ctime_ns) < settled:
            times = [state.st_mtime_ns, state.st_ctime_ns]
            stamps[str(path)] = [state.st_ino, state.st_size, *times]
        else:
            stamps[str(path)] = []
    return stamps


def changed_inputs(stamps: Stamps) -> list[str]:
    """List the files that may have changed since `keep_stamps`; remove their byte code."""
    try:
        kept = json.loads(FILE.read_bytes())
        changed = [path for path, stamp in stamps.items() if not stamp or kept.get(path) != stamp]
    except (OSError, ValueError, AttributeError):
        # Without stamps of the last build, every file may have changed.
        return list(stamps)
    for path in changed:
        if path.endswith(".py") and path in kept:
            Path(cache_from_source(path)).unlink(missing_ok=True)
    return changed


def keep_stamps(stamps: Stamps) -> None:
    """Remember the stamps of files that DVC has just compared."""
    write_synced(FILE, json.dumps(stamps).encode())


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in sorted(set(paths)):
        if path.is_file():
            yield path
        # os.walk yields nothing for a file.
        for folder, _, names in os.walk(path):
            # Byte code is no input.
            if not folder.endswith("__pycache__"):
                yield from (Path(folder, name) for name in names if Path(folder, name).is_file())
