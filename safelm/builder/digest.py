"""Digests of files and folders."""

import hashlib
import json
import os
import time
from pathlib import Path

MANIFEST = "manifest.json"
BLOCK = 1 << 20
SETTLED = 2_000_000_000  # ns: coarser than the clock of any file system
_known: dict[Path, tuple[tuple[int, ...], str]] = {}


def file_digest(path: Path) -> str:
    """sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def known_digest(path: Path) -> str:
    """sha256 of a file. It is not read again while inode, size and both times are those it was read
    under.

    The time of its last change of any kind (ctime) cannot be set back, so only a write within
    SETTLED of the one before could be missed: a file that changed so recently is not remembered.
    """
    state = path.stat()
    stamp = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns)
    if (known := _known.get(path)) and known[0] == stamp:
        return known[1]
    began = time.time_ns()
    digest = file_digest(path)
    if began - max(state.st_mtime_ns, state.st_ctime_ns) > SETTLED:
        _known[path] = stamp, digest
    return digest


def remember_digest(path: Path, state: os.stat_result, digest: str) -> None:
    """Take over a digest that a reader took; `state` is that of the file before it was read."""
    if time.time_ns() - max(state.st_mtime_ns, state.st_ctime_ns) > SETTLED:
        _known[path] = (state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns), digest


def digests(path: Path) -> tuple[str, str]:
    """md5 and sha256 of a file, read once."""
    md5, sha256 = hashlib.md5(usedforsecurity=False), hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()


def content_digest(path: Path) -> str:
    """The digest of a file, or of a folder: by its manifest where it has one, else by all that is
    in it.

    Of a manifest only what was made counts, not the keys it was made by: code that changed and gave
    the same bytes changes nothing for those who read them. What is not there has a digest too."""
    if path.is_file():
        return known_digest(path)
    if not path.is_dir():
        return "nothing"
    if (path / MANIFEST).is_file():
        values = json.loads((path / MANIFEST).read_bytes())
        tasks = [[task["name"], task["files"], task["ledger"]] for task in values["tasks"]]
        return hashlib.sha256(json.dumps(tasks, sort_keys=True).encode()).hexdigest()
    listing = [
        (inside.name, content_digest(inside))
        for inside in sorted(path.iterdir())
        if inside.name[0] != "."
    ]
    return hashlib.sha256(repr(listing).encode()).hexdigest()
