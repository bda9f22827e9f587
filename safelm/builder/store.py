"""A content-addressed store of finished shards in DVC's cache, and an index from key to digest.

An object is `<cache>/ab/cdef…` (md5, mode 0444), where DVC itself would put it, so a shard is on
disk once. The index holds a manifest entry for each key, `.safelm/index/<k2>/<key>.json`. A shard
is done when its entry is that of its key and its objects hold their bytes; that a file exists
proves nothing. Every object is hashed once, when it is made or before its first use: the index
keeps its stamp. The index is disposable: manifests hold the same entries (`add_entries`).
"""

import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import asdict
from pathlib import Path

from safelm.builder.digest import file_digest, json_digest, md5_and_sha256
from safelm.builder.files import (
    attach_filename,
    make_folder,
    rename_synced,
    temporary_directory,
    write_synced,
)
from safelm.builder.manifest import Counts, DamagedShard, File, Ledger, ManifestEntry
from safelm.builder.paths import cache, scratch
from safelm.builder.shards import Shard

READ_ONLY = 0o444
Stamp = list[int]


def stamp_of(state: os.stat_result) -> Stamp:
    """Return (mtime in ns, inode, size), by which an object that was hashed is known again.

    Not ctime, which every link to the object changes.
    """
    return [state.st_mtime_ns, state.st_ino, state.st_size]


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

    def shard(self, file: File) -> Shard:
        """Return a file of a manifest as it lies in the store."""
        return Shard(self.object(file.md5), file.rows, file.sha256)

    def get(self, key: str) -> ManifestEntry | None:
        """Return the entry of a key if it is valid and its objects are whole."""
        try:
            return self.load(key)
        except (OSError, DamagedShard):
            return None

    def load(self, key: str) -> ManifestEntry:
        """Return the entry of a key. An object is hashed unless its stamp is known.

        Raises:
            FileNotFoundError: the index does not have the key, or an object is gone.
            DamagedShard: the entry is that of another key, or an object has other bytes.
        """
        entry, known = self.read_entry(key)
        stamps = {file.md5: self._check(file, known.get(file.md5)) for file in entry.files}
        if stamps != known:
            # A full disk is no reason to make the shard again.
            with suppress(OSError):
                self.write_entry(entry, stamps)
        return entry

    def read_entry(self, key: str) -> tuple[ManifestEntry, dict[str, Stamp]]:
        """Read the entry of a key, and the stamps of its objects; the objects are not looked at.

        Raises:
            FileNotFoundError: the index does not have the key.
            DamagedShard: the file is damaged, or holds the entry of another key.
        """
        path = self._entry_path(key)
        try:
            values = json.loads(path.read_bytes())
            entry = ManifestEntry.load(values)
            digest = values["digest"]
            stamps = dict(values["stamps"])
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise DamagedShard(f"{path}: is damaged") from error
        # Otherwise the files of one shard, found under the key of another, would be believed.
        if entry.key != key or digest != json_digest(asdict(entry)):
            raise DamagedShard(f"{path}: is not the entry of its key")
        return entry, stamps

    def _check(self, file: File, known: Stamp | None) -> Stamp:
        path = self.object(file.md5)
        stamp = stamp_of(path.stat())
        if stamp != known and file_digest(path) != file.sha256:
            raise DamagedShard(f"{path}: does not hold the bytes that its name promises")
        return stamp

    def temporary_directory(self, key: str) -> AbstractContextManager[Path]:
        """Provide an empty folder to make a shard in, on the file system of the objects."""
        return temporary_directory(self.temporary_root, key[:16])

    def commit(
        self,
        key: str,
        folder: Path,
        rows: Counts,
        ledger: Ledger,
    ) -> ManifestEntry:
        """Move files of a temporary directory into the store, then write their entry.

        `rows` gives each file's suffix, which is its name in `folder`, and its number of rows.
        """
        suffixes = sorted(rows)
        files = [self._add_file(folder / suffix, suffix, rows[suffix]) for suffix in suffixes]
        stamps = {file.md5: stamp_of(self.object(file.md5).stat()) for file in files}
        # Last: a crash before leaves objects that no entry names, which `make gc` removes.
        entry = ManifestEntry(key=key, files=tuple(files), ledger=ledger)
        self.write_entry(entry, stamps)
        return entry

    def write_entry(self, entry: ManifestEntry, stamps: Mapping[str, Stamp]) -> None:
        """Write an entry of the index, atomically, with the stamps of objects that were hashed."""
        path = self._entry_path(entry.key)
        content = asdict(entry)
        values = {**content, "digest": json_digest(content), "stamps": stamps}
        write_synced(path, json.dumps(values, sort_keys=True).encode())

    def write_object(self, md5: str, data: bytes) -> Path:
        """Write a small object, atomically and read-only; return its path."""
        path = self.object(md5)
        write_synced(path, data)
        path.chmod(READ_ONLY)
        return path

    def add_entries(self, entries: Iterable[ManifestEntry]) -> int:
        """Add entries of a manifest made elsewhere (`dvc pull`); return how many were new.

        Their objects are hashed when they are first used.
        """
        new = [entry for entry in entries if not self._has(entry)]
        for entry in new:
            self.write_entry(entry, {})
        return len(new)

    def _has(self, entry: ManifestEntry) -> bool:
        try:
            return self.read_entry(entry.key)[0] == entry
        except (OSError, DamagedShard):
            return False

    def forget(self, keys: Iterable[str]) -> None:
        """Take keys out of the index, so that their shards are made again."""
        for key in keys:
            self._entry_path(key).unlink(missing_ok=True)

    def index(self) -> list[Path]:
        """List the files of the index; the name of each is a key."""
        return sorted(self.scratch.glob("index/??/*.json"))

    def entries(self) -> Iterator[tuple[Path, ManifestEntry, dict[str, Stamp]]]:
        """Yield every entry of the index that can be used, with its file and known stamps."""
        for path in self.index():
            try:
                entry, stamps = self.read_entry(path.stem)
            except (OSError, DamagedShard):
                continue
            yield path, entry, stamps

    def _entry_path(self, key: str) -> Path:
        return self.scratch / "index" / key[:2] / f"{key}.json"

    def _add_file(self, path: Path, suffix: str, rows: int) -> File:
        md5, sha256 = md5_and_sha256(path)
        size = path.stat().st_size
        with attach_filename(path), path.open("rb") as file:
            # DVC trusts a read-only object without hashing it again.
            os.fchmod(file.fileno(), READ_ONLY)
            os.fsync(file.fileno())
        target = self.object(md5)
        make_folder(target.parent)
        # DVC's own store keeps an object that is there, damaged or not.
        if target.exists() and file_digest(target) == sha256:
            path.unlink()
        else:
            rename_synced(path, target)  # also over an object that was damaged
        return File(suffix, rows, size, md5, sha256)


def project_store() -> Store:
    """Return the store of the project in the current folder."""
    return Store(cache(), scratch())
