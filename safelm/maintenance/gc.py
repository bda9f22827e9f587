"""Free the disk of what no build needs. DVC collects; this keeps its hands off a running build and
off unfinished work.
A bare `dvc gc` takes away the shards of a stage that has not finished, and objects from under one
that runs."""

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
from safelm.maintenance.verify.lock_file import DIR, listing
from safelm.maintenance.verify.repair import run_dvc

KEEP = Path(
    "unfinished.dvc"
)  # there while DVC collects, so that it sees the shards that only the index knows


def collect_garbage(hours: float = 24.0) -> str:
    """Free the disk of what no build needs, and say what that freed.

    Args:
        hours: keep shards made in so many hours although no finished stage has them.

    Raises:
        LockedError: a build runs.
        RepairError: DVC failed.
    """
    with all_stages_locked("is collecting garbage"):
        return collect(Store(cache(), scratch()), hours)


def collect(store: Store, hours: float) -> str:
    """Collect what neither dvc.lock names nor the last `hours` made; a sentence on what was freed."""
    before, count = _size(store)
    recent = {
        file.md5 for record in _records(store, time.time() - 3600 * hours) for file in record.files
    }
    with _kept(sorted(md5 for md5 in recent if store.object(md5).exists()), store):
        run_dvc("gc", "--quiet", "--workspace", "--force")
    after, left = _size(store)
    dropped = _forget(store)
    return (
        f"freed {(before - after) / 1e6:,.1f} MB: {count - left:,} of {count:,} objects and {dropped:,} records gone, "
        f"{after / 1e6:,.1f} MB kept"
    )


@contextmanager
def _kept(objects: list[str], store: Store) -> Iterator[None]:
    """Name objects in a file of DVC's while it collects."""
    data = listing({f"{md5[:2]}/{md5[2:]}": md5 for md5 in objects})
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


def _records(store: Store, since: float) -> Iterator[ManifestEntry]:
    for path in store.scratch.glob("index/??/*.json"):
        try:
            if path.stat().st_mtime >= since:
                yield ManifestEntry.load(json.loads(path.read_bytes()))
        except (OSError, ValueError, KeyError, TypeError):
            continue  # torn: its shard is not done


def _forget(store: Store) -> int:
    """Drop the records whose objects are gone; the number dropped."""
    gone = [path for path in store.scratch.glob("index/??/*.json") if store.get(path.stem) is None]
    for path in gone:
        path.unlink()
    return len(gone)


def _size(store: Store) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in store.cache.glob("??/*") if path.is_file()]
    return sum(sizes), len(sizes)

