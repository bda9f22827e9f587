"""The command `safelm gc`: free the disk of what no build needs, sparing unfinished work.

DVC collects. A bare `dvc gc` would also remove the shards of a stage that has not finished, objects
that a running build uses, and those of other projects on the cache.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safelm.builder.digest import bytes_md5
from safelm.builder.locks import all_stages_locked
from safelm.builder.paths import SCRATCH, scratch
from safelm.builder.provenance import DIR, LOCK_FILE
from safelm.builder.store import Store, project_store
from safelm.builder.workspaces import Workspace, reserve, take_reserve, workspaces
from safelm.maintenance.dvc import run_dvc
from safelm.maintenance.verify.lock_file import DamagedLockFile, read_lock, write_listing

HOURS = 24.0


class NeighbourError(RuntimeError):
    """Another project uses the cache, and what it needs cannot be read; the message says why."""


def collect_garbage(hours: float = HOURS) -> str:
    """Free the disk of what no project on the cache needs, and return a summary.

    Waits until nothing is built on the cache.

    Args:
        hours: keep shards made here in the last hours, although no finished stage has them. Those
            of other projects are kept for a day at least.

    Raises:
        DvcError: DVC failed.
        DamagedLockFile: dvc.lock, which says what is needed, is missing or damaged.
        NeighbourError: what another project on the cache needs cannot be read.
    """
    with all_stages_locked("is collecting garbage", wait=True):
        _require_lock_file()
        reserve().unlink(missing_ok=True)
        try:
            return collect(project_store(), hours)
        finally:
            take_reserve()


def _require_lock_file() -> None:
    try:
        read_lock()
    except FileNotFoundError:
        raise DamagedLockFile(
            f"{LOCK_FILE}: is missing, and without it every object would go; restore it with "
            "`git checkout dvc.lock`, or run `make repro` first"
        ) from None
    except DamagedLockFile as error:
        raise DamagedLockFile(f"{error}; `make doctor` names the remedy") from None


def collect(store: Store, hours: float) -> str:
    """Remove what neither a dvc.lock names nor the last `hours` made; return a summary."""
    neighbours = _neighbours()
    size_before, count_before = _size(store)
    # Of killed processes, for none of the living builds now. First, for the disk may be full.
    for path in store.temporary_root.glob("*"):
        shutil.rmtree(path)
    objects = set(_recent_objects(store, hours))
    for folder in neighbours:
        objects.update(_recent_objects(Store(store.cache, folder / SCRATCH), max(hours, HOURS)))
    with _kept(sorted(md5 for md5 in objects if store.object(md5).exists()), store) as kept:
        projects = map(str, [kept, *neighbours])
        run_dvc("gc", "--quiet", "--workspace", "--force", "--projects", *projects)
    size, count = _size(store)
    entries = _remove_unusable_entries(store)
    others = f"; {len(neighbours)} other projects on this cache keep theirs" if neighbours else ""
    return (
        f"freed {(size_before - size) / 1e6:,.1f} MB: removed {count_before - count:,} of "
        f"{count_before:,} objects and {entries:,} index entries; {size / 1e6:,.1f} MB kept{others}"
    )


@contextmanager
def _kept(objects: list[str], store: Store) -> Iterator[Path]:
    """Name objects in a project of its own, which DVC counts as one of those on the cache.

    In a file of this project, another process of DVC would take them for an output that is lost.
    """
    data = write_listing({f"{md5[:2]}/{md5[2:]}": md5 for md5 in objects})
    md5 = bytes_md5(data) + DIR
    path = store.write_object(md5, data)
    folder = scratch("gc").absolute()
    (folder / ".dvc").mkdir(parents=True, exist_ok=True)
    cache_dir = store.cache.parent.parent.absolute()
    # DVC refuses a project outside of git unless no_scm is set.
    config = f"[core]\n    no_scm = true\n[cache]\n    dir = {cache_dir}\n"
    (folder / ".dvc/config").write_text(config, encoding="utf-8")
    kept = f"outs:\n- md5: {md5}\n  hash: md5\n  path: unfinished\n"
    (folder / "unfinished.dvc").write_text(kept, encoding="utf-8")
    try:
        yield folder
    finally:
        path.unlink(missing_ok=True)


def _neighbours() -> list[Path]:
    """List the other projects on the cache; forget those that were deleted, after naming them.

    Raises:
        NeighbourError: what a project needs cannot be read.
    """
    others = []
    for workspace in workspaces():
        if workspace == Workspace.here():
            continue
        if workspace.is_gone():
            print(f"{workspace.path}: is gone, so nothing is kept for it", flush=True)
            workspace.file.unlink(missing_ok=True)
        else:
            _require_readable(workspace)
            others.append(Path(workspace.path))
    return others


def _require_readable(workspace: Workspace) -> None:
    path = Path(workspace.path)
    if not workspace.is_here():
        raise NeighbourError(
            f"{path} on host {workspace.host}: uses the cache, but cannot be seen from here; "
            f"run gc there, or delete {workspace.file} if that project is gone"
        )
    try:
        read_lock(path / LOCK_FILE)
    except FileNotFoundError:
        pass  # it has not finished a stage yet; its index names what it made
    except (DamagedLockFile, OSError) as error:
        raise NeighbourError(
            f"{error}; {path} uses the cache too: run `make doctor` there, then collect again"
        ) from None


def _recent_objects(store: Store, hours: float) -> Iterator[str]:
    """Yield the objects of index entries of the last hours; a damaged entry names none."""
    since = time.time() - 3600 * hours
    for path, entry, _ in store.entries():
        if path.stat().st_mtime >= since:
            yield from (file.md5 for file in entry.files)


def _remove_unusable_entries(store: Store) -> int:
    """Remove the entries whose objects are gone; return their number."""
    unusable = [path for path in store.index() if store.get(path.stem) is None]
    for path in unusable:
        path.unlink()
    return len(unusable)


def _size(store: Store) -> tuple[int, int]:
    sizes = [path.stat().st_size for path in store.cache.glob("??/*") if path.is_file()]
    return sum(sizes), len(sizes)
