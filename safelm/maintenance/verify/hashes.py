"""Digests of many files at once, and stamps that spare a quick check the hashing."""

import json
import os
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from safelm.builder.digest import md5_and_sha256
from safelm.builder.environment import workers
from safelm.builder.files import write_synced
from safelm.builder.paths import scratch
from safelm.builder.store import Stamp, Store, stamp_of

FILE = "verified.json"

Digests = tuple[str, str]
Progress = Callable[[int, int], None]


def no_progress(done: int, total: int) -> None:
    """Ignore progress."""


@contextmanager
def progress_bar(title: str) -> Iterator[Progress]:
    """Show a bar of the bytes hashed, on a terminal."""
    hidden = not sys.stderr.isatty()
    with tqdm(desc=title, unit="B", unit_scale=True, leave=False, disable=hidden) as bar:

        def move(done: int, total: int) -> None:
            bar.total = total
            bar.update(done - bar.n)

        yield move


class Stamps:
    """Digests by path, each with the (mtime in ns, inode, size) that its file had.

    A flipped bit under a kept modification time is not seen this way; a truncated or rewritten
    file is. The file of stamps is disposable: a damaged one counts as empty.
    """

    def __init__(self) -> None:
        self.known: dict[str, tuple[Stamp, Digests]] = {}

    @classmethod
    def read(cls) -> "Stamps":
        """Read the stamps of the last full check."""
        stamps = cls()
        try:
            saved = json.loads(scratch(FILE).read_bytes())
            # Unpacked, so that a damaged file fails here and not where a digest is used.
            for path, (stamp, (md5, sha256)) in saved.items():
                stamps.known[path] = stamp, (md5, sha256)
        except (OSError, ValueError, TypeError, AttributeError):
            stamps.known.clear()
        return stamps

    @classmethod
    def of_index(cls, store: Store) -> "Stamps":
        """Take the stamps of objects from the index, which has those of all that was made here."""
        stamps = cls()
        for _, entry, known in store.entries():
            for file in entry.files:
                path = str(store.object(file.md5))
                if stamp := known.get(file.md5):
                    stamps.known[path] = stamp, (file.md5, file.sha256)
        return stamps

    def get(self, path: Path) -> Digests | None:
        """Return the digests of a file, if its stamp is still the same."""
        stamp, digests = self.known.get(str(path), (None, None))
        return digests if stamp == stamp_of(path.stat()) else None

    def is_whole(self, path: Path, md5: str) -> bool:
        """Return whether a file that was hashed has a digest."""
        _, digests = self.known.get(str(path), (None, ("", "")))
        return digests[0] == md5

    def put(self, path: Path, stat: os.stat_result, digests: Digests) -> None:
        """Add digests; `stat` was taken before the file was read, so that a later write is seen."""
        self.known[str(path)] = stamp_of(stat), digests

    def write(self) -> None:
        """Write the stamps for the next quick check."""
        write_synced(scratch(FILE), json.dumps(self.known).encode())


class Hashes:
    """md5 and sha256 of many files; names of one inode are hashed once.

    `digests` holds the error of a file that cannot be read. Threads hash side by side, because
    hashlib releases the interpreter's lock.
    """

    def __init__(self, paths: set[Path], stamps: Stamps) -> None:
        self.stamps = stamps
        self.done = 0
        self.digests: dict[Path, Digests | OSError] = {}
        self.sizes: dict[Path, int] = {}
        self.names: dict[tuple[int, int], list[Path]] = {}  # by device and inode
        for path in sorted(paths):
            try:
                stat = path.stat()
                self.sizes[path] = stat.st_size
                self.names.setdefault((stat.st_dev, stat.st_ino), []).append(path)
            except OSError as error:
                self.digests[path] = error

    def run(self, progress: Progress) -> None:
        """Hash every file; call `progress` with the bytes hashed and the bytes in all."""
        waiting = []
        for names in self.names.values():
            if known := self.stamps.get(names[0]):
                self.digests.update(dict.fromkeys(names, known))
            else:
                waiting.append(names)
        total = sum(self.sizes[names[0]] for names in waiting)
        progress(0, total)
        with ThreadPoolExecutor(workers()) as pool:
            results = pool.map(self._hash, [names[0] for names in waiting])
            for names, result in zip(waiting, results, strict=True):
                self.digests.update(dict.fromkeys(names, result))
                self.done += self.sizes[names[0]]
                progress(self.done, total)

    def _hash(self, path: Path) -> Digests | OSError:
        try:
            before = path.stat()
            digests = md5_and_sha256(path)
        except OSError as error:
            return error
        self.stamps.put(path, before, digests)
        return digests
