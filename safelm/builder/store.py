"""Finished shards, kept in DVC's own content-addressed cache, and an index that says which key gave
which digest.

An object is `<cache>/ab/cdef…` (md5, mode 0444), where DVC itself would put it, so a shard is on
disk once. A record is `.safelm/index/<k2>/<key>.json`. A shard is done when its record can be read
and its objects are there: nothing is trusted because some file exists. The index is disposable:
manifests hold the same records (`learn`)."""

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
    """Objects and records; plain files, any number of writers."""

    def __init__(self, cache: Path, scratch: Path) -> None:
        self.cache, self.scratch = cache, scratch
        self.temporary_root = (
            cache.parent.parent / "safelm"
        )  # DVC's own <cache dir>/files/md5 has objects only

    def object(self, md5: str) -> Path:
        """Where an object of this digest is."""
        return self.cache / md5[:2] / md5[2:]

    def get(self, key: str) -> ManifestEntry | None:
        """The record of a key, if its objects are all there."""
        try:
            record = ManifestEntry.load(json.loads(self._record(key).read_bytes()))
            whole = all(self.object(file.md5).stat().st_size == file.bytes for file in record.files)
        except (OSError, ValueError, KeyError, TypeError):
            return None  # a torn or missing record, or a missing object: not done
        return record if whole else None

    def temporary_directory(self, key: str) -> AbstractContextManager[Path]:
        """An empty folder for one try at a shard, where a rename reaches the objects."""
        return temporary_directory(self.temporary_root, key[:16])

    def commit(self, key: str, folder: Path, rows: dict[str, int], ledger: Ledger) -> ManifestEntry:
        """Move the files of an attempt's folder into the store and record them: first the objects,
        then the record.
        """
        files = tuple(self._take(folder / suffix, suffix, rows[suffix]) for suffix in sorted(rows))
        record = ManifestEntry(key=key, files=files, ledger=ledger)
        self.write_entry(record)
        return record

    def write_entry(self, record: ManifestEntry) -> None:
        """Write a record, whole or not at all."""
        path = self._record(record.key)
        make_folder(path.parent)
        write_synced(path, json.dumps(asdict(record), sort_keys=True).encode())

    def add_entries(self, records: Iterable[ManifestEntry]) -> int:
        """Take over the records of a manifest that came from elsewhere (`dvc pull`); the number
        that were new.
        """
        new = [record for record in records if self.get(record.key) is None]
        for record in new:
            self.write_entry(record)
        return len(new)

    def _record(self, key: str) -> Path:
        return self.scratch / "index" / key[:2] / f"{key}.json"

    def _take(self, path: Path, suffix: str, rows: int) -> File:
        md5, sha256 = md5_and_sha256(path)
        size = path.stat().st_size
        with attach_filename(path), path.open("rb") as file:
            os.fchmod(
                file.fileno(), 0o444
            )  # DVC takes a read-only object as whole without hashing it again
            os.fsync(file.fileno())
        target = self.object(md5)
        make_folder(target.parent)
        if target.exists() and file_digest(target) == sha256:
            path.unlink()
        else:
            rename_synced(path, target)  # also over an object that was damaged
        return File(suffix, rows, size, md5, sha256)
