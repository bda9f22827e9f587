"""Digests that were taken before, with the stamp of the file they were taken of: for a sweep that
hashes nothing anew.

A flipped bit under a kept modification time is not seen this way; a truncated or rewritten file is.
"""

import json
import os
from pathlib import Path

from safelm.builder.files import write_synced
from safelm.builder.paths import scratch

FILE = "verified.json"


class Stamps:
    """path → (mtime in ns, inode, size) → (md5, sha256). Disposable: a torn file is an empty one."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[list[int], tuple[str, str]]] = {}

    @classmethod
    def read(cls) -> "Stamps":
        """The stamps of the last full check."""
        stamps = cls()
        try:
            values = json.loads(scratch(FILE).read_bytes())
            stamps.known = {
                path: (stamp, (md5, sha256)) for path, (stamp, (md5, sha256)) in values.items()
            }
        except (OSError, ValueError, TypeError, AttributeError):
            pass
        return stamps

    def get(self, path: Path) -> tuple[str, str] | None:
        """The digests of a file, if its stamp is the one they were taken under."""
        stamp, digests = self.known.get(str(path), (None, None))
        return digests if stamp == _stamp(path.stat()) else None

    def put(self, path: Path, stat: os.stat_result, digests: tuple[str, str]) -> None:
        """Remember digests; `stat` was taken before the file was read, so that a later write is
        seen.
        """
        self.known[str(path)] = (_stamp(stat), digests)

    def write(self) -> None:
        """Keep the stamps for the next sweep."""
        scratch().mkdir(exist_ok=True)
        write_synced(scratch(FILE), json.dumps(self.known).encode())


def _stamp(stat: os.stat_result) -> list[int]:
    return [stat.st_mtime_ns, stat.st_ino, stat.st_size]
