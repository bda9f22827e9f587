"""Digests of files, folders and JSON values."""

import hashlib
import json
import os
import time
from pathlib import Path
from typing import Any

MANIFEST = "manifest.json"
BLOCK = 1 << 20
SETTLED = 2_000_000_000  # ns: coarser than the clock of any file system

Stamp = tuple[int, int, int, int]
_cache: dict[Path, tuple[Stamp, str]] = {}


def json_digest(values: Any) -> str:
    """Return the sha256 of a JSON value; the order of keys does not count."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def cached_digest(path: Path) -> str:
    """Return the sha256 of a file; read it again only if inode, size or a time has changed.

    The time of the last change of any kind (ctime) cannot be set back. Only a write within
    SETTLED of the one before could be missed, so the digest of so recent a file is not cached.
    """
    state = path.stat()
    cached = _cache.get(path)
    if cached and cached[0] == change_stamp(state):
        return cached[1]
    began = time.time_ns()
    digest = file_digest(path)
    remember_digest(path, state, digest, began)
    return digest


def remember_digest(path: Path, state: os.stat_result, digest: str, now: int) -> None:
    """Cache the digest of a file that was settled `now`; `state` was taken before it was read."""
    changed = max(state.st_mtime_ns, state.st_ctime_ns)
    if now - changed > SETTLED:
        _cache[path] = change_stamp(state), digest


def change_stamp(state: os.stat_result) -> Stamp:
    """Return (inode, size, mtime and ctime in ns), which differ after any change of a file."""
    return state.st_ino, state.st_size, state.st_mtime_ns, state.st_ctime_ns


def bytes_md5(data: bytes) -> str:
    """Return the md5 of some bytes, by which DVC names objects."""
    return hashlib.md5(data, usedforsecurity=False).hexdigest()


def md5_and_sha256(path: Path) -> tuple[str, str]:
    """Return both digests of a file, which is read once."""
    md5 = hashlib.md5(usedforsecurity=False)
    sha256 = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            md5.update(block)
            sha256.update(block)
    return md5.hexdigest(), sha256.hexdigest()


def content_digest(path: Path) -> str:
    """Return the digest of a file or folder, or "nothing" where neither exists.

    A folder with a manifest counts by what the manifest lists, any other by its visible content.
    Keys in a manifest do not count: changed code that gives the same bytes changes nothing for
    those who read them.
    """
    if path.is_file():
        return cached_digest(path)
    if not path.is_dir():
        return "nothing"
    manifest = path / MANIFEST
    if manifest.is_file():
        tasks = json.loads(manifest.read_bytes())["tasks"]
        return json_digest([[task["name"], task["files"], task["ledger"]] for task in tasks])
    # Hidden files, such as those of an editor, are nobody's input.
    visible = [child for child in sorted(path.iterdir()) if child.name[0] != "."]
    listing = [(child.name, content_digest(child)) for child in visible]
    return hashlib.sha256(repr(listing).encode()).hexdigest()
