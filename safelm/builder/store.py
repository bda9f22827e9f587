"""A content-addressed store of finished shards in DVC's cache, and an index from key to digest.

An object is `<cache>/ab/cdef…` (md5, mode 0444), where DVC itself would put it, so a shard is on
disk once. The index holds a manifest entry for each key, `.safelm/index/<k2>/<key>.json`. A shard
is done when its entry can be read and its objects are there; that a file exists proves nothing.
The index is disposable: manifests hold the same entries (`add_entries`).
"""

import json
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import asdict
from pathlib import Path

from safelm.builder.digest import file_digest, md5_and_sha256
from safelm.builder.files import (
    attach_filename,
    make_folder,
    rename_synced,
    temporary_directory,
    write_synced,
)
from safelm.builder.manifest import File, Ledger, ManifestEntry


class Store:
    """Objects and their index, as plain files; any number of processes may write."""

    def __init__(self, cache: Path, scratch: Path) -> None:
        self.cache = cache
        self.scratch = scratch
        # Beside <cache dir>/files/md5, which holds objects only.
        self.temporary_root = cache.parent.parent / "safelm"

    def object(self, md5: str) -> Path:
        """Return the path of an object, whether it exists or not."""
        return self.cache / md5[:2] / md5[2:]

    def get(self, key: str) -> ManifestEntry | None:
        """Return the entry of a key if all of its objects exist with the right size."""
        try:
            entry = ManifestEntry.load(json.loads(self._entry_path(key).read_bytes()))
            sizes = [self.object(file.md5).stat().st_size for file in entry.files]
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a damaged or missing entry, or a missing object: not done
        return entry if sizes == [file.bytes for file in entry.files] else None

    def temporary_directory(self, key: str) -> AbstractContextManager[Path]:
        """Provide an empty folder to make a shard in, on the file system of the objects."""
        return temporary_directory(self.temporary_root, key[:16])

    def commit(
        self,
        key: str,
        folder: Path,
        rows: dict[str, int],
        ledger: Ledger,
    ) -> ManifestEntry:
        """Move files of a temporary directory into the store, then write their entry.

        `rows` gives each file's suffix, which is its name in `folder`, and its number of rows.
        """
        suffixes = sorted(rows)
        files = [self._add_file(folder / suffix, suffix, rows[suffix]) for suffix in suffixes]
        # Last: a crash before leaves objects that no entry names, which `make gc` removes.
        entry = ManifestEntry(key=key, files=tuple(files), ledger=ledger)
        self.write_entry(entry)
        return entry

    def write_entry(self, entry: ManifestEntry) -> None:
        """Write an entry of the index, atomically."""
        path = self._entry_path(entry.key)
        make_folder(path.parent)
        write_synced(path, json.dumps(asdict(entry), sort_keys=True).encode())

    def add_entries(self, entries: Iterable[ManifestEntry]) -> int:
        """Add entries of a manifest made elsewhere (`dvc pull`); return how many were new."""
        new = [entry for entry in entries if self.get(entry.key) is None]
        for entry in new:
            self.write_entry(entry)
        return len(new)

    def index(self) -> list[Path]:
        """List the files of the index; the name of each is a key."""
        return sorted(self.scratch.glob("index/??/*.json"))

    def _entry_path(self, key: str) -> Path:
        return self.scratch / "index" / key[:2] / f"{key}.json"

    def _add_file(self, path: Path, suffix: str, rows: int) -> File:
        md5, sha256 = md5_and_sha256(path)
        size = path.stat().st_size
        with attach_filename(path), path.open("rb") as file:
            # DVC trusts a read-only object without hashing it again.
            os.fchmod(file.fileno(), 0o444)
            os.fsync(file.fileno())
        target = self.object(md5)
        make_folder(target.parent)
        if target.exists() and file_digest(target) == sha256:
            path.unlink()
        else:
            rename_synced(path, target)  # also over an object that was damaged
        return File(
            suffix,
            rows,
            size,
            md5,
            sha256,
        )
