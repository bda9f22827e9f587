"""What every stage does, whether it makes shards or one artifact: hold its lock, and put its folder
into build/.
"""

import fcntl
import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from safelm.builder.digest import MANIFEST
from safelm.builder.files import REMEDIES, link, remove_stale, rename_synced, temporary_directory
from safelm.builder.manifest import DamagedShard, Manifest, ManifestEntry
from safelm.builder.paths import build, cache, scratch
from safelm.builder.store import Store
from safelm.builder.workers import describe_error


class StageError(RuntimeError):
    """A stage could not be built; the message says which shard and why."""


@contextmanager
def locked(stage: str) -> Iterator[None]:
    """One build of a stage at a time; the second is refused with the number of the process that has
    it.

    An error of the file system, such as a full disk, is told as the stage's own.
    """
    try:
        with _lock(stage):
            yield
    except OSError as error:
        if error.errno not in REMEDIES:
            raise
        raise StageError(f"{stage}: {describe_error(error)}") from error


@contextmanager
def _lock(stage: str) -> Iterator[None]:
    path = scratch("locks", stage.replace("/", "-"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StageError(
                f"{stage}: process {_holder(path)} is building it now; wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def _holder(path: Path) -> str:
    """The number of the process that has a lock; it writes it a moment after it took the lock."""
    for _ in range(100):
        if number := path.read_text().strip():
            return number
        time.sleep(0.01)
    return "?"


def import_records(stage: str, store: Store) -> int:
    """Take over the records of the manifest that dvc.lock names for a stage: a build that was
    pulled is known too.
    """
    return store.add_entries(_locked_records(stage, store))


def _locked_outs(lock: Path) -> list[dict[str, Any]]:
    """The outputs that dvc.lock names. DVC writes it in place, and a branch built beside this one
    may be doing so now.

    One that stays torn teaches nothing here: shards are made, and `make doctor` tells of it.
    """
    for _ in range(40):
        try:
            stages = (yaml.load(lock.read_bytes(), Loader=yaml.CSafeLoader) or {}).get("stages", {})
            outs = [out for entry in stages.values() for out in entry.get("outs", [])]
            return [out for out in outs if out.get("path") and out.get("md5")]
        except FileNotFoundError:
            return []
        except (yaml.YAMLError, AttributeError, TypeError):
            time.sleep(0.05)
    return []


def _locked_records(stage: str, store: Store) -> Iterator[ManifestEntry]:
    for out in _locked_outs(Path("dvc.lock")):
        if build(stage).is_relative_to(out["path"]) and out["md5"].endswith(".dir"):
            manifest = (build(stage) / MANIFEST).relative_to(out["path"]).as_posix()
            try:
                listing = json.loads(store.object(out["md5"]).read_bytes())
                md5 = next(item["md5"] for item in listing if item["relpath"] == manifest)
                yield from (
                    record for _, record in Manifest.parse(store.object(md5).read_bytes()).tasks
                )
            except (OSError, ValueError, KeyError, TypeError, StopIteration, DamagedShard):
                continue  # not in this cache: the shards are made


def assemble(
    manifest: Manifest, folder: Path, store: Store, inside: Mapping[str, Manifest] | None = None
) -> None:
    """Link the files of a manifest, and of those `inside` of it, into a fresh folder; one rename
    puts it in place.
    """
    place = build(".attempts")  # on the file system of build/, and inside of no output
    remove_stale(place)
    with (
        temporary_directory(place, manifest.stage.replace("/", "-")) as fresh,
        temporary_directory(place, "before") as before,
    ):
        link_files(manifest, fresh / "new", store)
        for name, other in (inside or {}).items():
            link_files(other, fresh / "new" / name, store)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            os.rename(
                folder, before / "old"
            )  # what stood there, from a run by hand; half of it must never be seen
        rename_synced(fresh / "new", folder)


def link_files(manifest: Manifest, folder: Path, store: Store | None = None) -> None:
    """Link the files of a manifest, and write it, into a folder that is not there yet."""
    store = store or Store(cache(), scratch())
    folder.mkdir(parents=True)
    for name, file in manifest.files():
        target = folder / name
        if "/" in name:
            target.parent.mkdir(parents=True, exist_ok=True)
        link(store.object(file.md5), target)
    manifest.write(folder)
