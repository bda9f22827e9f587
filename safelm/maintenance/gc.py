"""The command `safelm gc`: free the disk of what no build needs, sparing unfinished work.

DVC collects. A bare `dvc gc` would also remove the shards of a stage that has not finished, and
objects that a running build uses.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safelm.builder.locks import all_stages_locked
from safelm.builder.manifest import ManifestEntry
from safelm.builder.paths import cache, scratch
from safelm.builder.store import Store
from safelm.maintenance.dvc import run_dvc
from safelm.maintenance.verify.lock_file import (
    DIR,
    LOCK,
    DamagedLockFile,
    read_lock,
    write_listing,
)

# Exists while DVC collects, so that it keeps the shards that only the index names.
KEEP = Path("unfinished.dvc")
HOURS = 24.0


def collect_garbage(hours: float = HOURS) -> str:
    """Free the disk of what no build needs, and return a summary.

    Args:
        hours: keep shards made in the last hours, although no finished stage has them.

    Raises:
        LockedError: a build runs.
        DvcError: DVC failed.
        DamagedLockFile: dvc.lock, which says what is needed, is missing or damaged.
    """
    try:
        read_lock()
    except FileNotFoundError:
        raise DamagedLockFile(
            f"{LOCK}: is missing, and without it every object would go; restore it with "
            "`git checkout dvc.lock`, or run `make repro` first"
        ) from None
    except DamagedLockFile as error:
        raise DamagedLockFile(f"{error}; `make doctor` names the remedy") from None
    with all_stages_locked("is collecting garbage"):
        return collect(Store(cache(), scratch()), hours)


def collect(store: Store, hours: float) -> str:
    """Remove what neither dvc.lock names nor the last `hours` made; return a summary."""
    size_before, count_before = _size(store)
    recent = set[str]()
    for entry in _entries(store, time.time() - 3600 * hours):
        recent.update(file.md5 for file in entry.files)
    with _kept(sorted(md5 for md5 in recent if store.object(md5).exists()), store):
        run_dvc("gc", "--quiet", "--workspace", "--force")
    size, count = _size(store)
    entries = _remove_unusable_entries(store)
    return (
        f"freed {(size_before - size) / 1e6:,.1f} MB: removed {count_before - count:,} of "
        f"{count_before:,} objects and {entries:,} index entries; {size / 1e6:,.1f} MB kept"
    )


@contextmanager
def _kept(objects: list[str], store: Store) -> Iterator[None]:
    """Name objects in a file of DVC's while it collects."""
    data = write_listing({f"{md5[:2]}/{md5[2:]}": md5 for md5 in objects})
    md5 = hashlib.md5(data, usedforsecurity=False).hexdigest() + DIR
    path = store.object(md5)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    path.chmod(0o444)
    KEEP.write_text(f"outs:\n- md5: {md5}\n  hash: md5\n  path: {KEEP.stem}\n", encoding="utf-8")
    try:
        yield
    finally:
        KEEP.unlink()
        path.unlink(missing_ok=True)


def _entries(store: Store, since: float) -> Iterator[ManifestEntry]:
    """Yield the entries of the index written since a time; a damaged one names no shard."""
    for path in store.index():
        try:
            if path.stat().st_mtime >= since:
                yield ManifestEntry.load(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            continue


def _remove_unusable_entries(store: Store) -> int:
    """Remove the entries whose objects are gone; return their number."""
    unusable = [path for path in store.index() if store.get(path.stem) is None]
    for path in unusable:
        path.unlink()
    return len(unusable)


def _size(store: Store) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in store.cache.glob("??/*") if path.is_file()]
    return sum(sizes), len(sizes)
