"""Leftovers of killed builds in the cache and in .safelm; these checks need that no build runs."""

import re
from itertools import chain
from pathlib import Path

from safelm.builder.manifest import DamagedShard
from safelm.builder.paths import BUILD, cache, scratch
from safelm.builder.status import file_bytes
from safelm.builder.store import Store, project_store
from safelm.maintenance.doctor.diagnosis import Diagnoses, Diagnosis, leftover
from safelm.maintenance.quarantine import quarantine_folder

OBJECT = re.compile(r"[0-9a-f]{30}(\.dir)?")
PREFIX = re.compile(r"[0-9a-f]{2}")


def half_written() -> Diagnoses:
    """Find half-written objects: DVC and the store write under a name that is no digest."""
    for folder in sorted(cache().glob("*")):
        if not PREFIX.fullmatch(folder.name):
            yield leftover(folder, "was being written to the cache")
            continue
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            # Older versions of DVC unpacked listings beside them.
            is_object = OBJECT.fullmatch(path.name) or path.name.endswith(".unpacked")
            if not is_object:
                bytes = path.stat().st_size
                yield leftover(path, f"was being written to the cache ({bytes:,} bytes)")


def temporary_directories() -> Diagnoses:
    """Find temporary directories; the shards that were finished in them are in the store."""
    store = project_store()
    roots = (store.temporary_root, scratch("attempts"), BUILD / ".attempts")
    for path in chain.from_iterable(sorted(root.glob("*")) for root in roots):
        megabytes = file_bytes(path) / 1e6
        yield leftover(path, f"is a temporary directory of a killed build ({megabytes:,.1f} MB)")


def index_entries() -> Diagnoses:
    """Find damaged entries of the index; their shards count as not made, and are made again."""
    store = project_store()
    for path in sorted(scratch("index").glob("??/*")):
        if path.suffix != ".json" or path.name.startswith("."):
            yield leftover(path, "was being written to the index")
        elif not _is_entry(path, store):
            yield leftover(path, "is a damaged entry; its shard is made again if it is needed")


def _is_entry(path: Path, store: Store) -> bool:
    try:
        return bool(store.read_entry(path.stem))
    except (OSError, DamagedShard):
        return False


def quarantined() -> Diagnoses:
    """Report the disk space that the quarantine takes."""
    folder = quarantine_folder()
    if megabytes := file_bytes(folder) / 1e6:
        yield Diagnosis(
            folder,
            f"holds {megabytes:,.1f} MB of quarantined files",
            "delete it when you have looked at it",
        )
