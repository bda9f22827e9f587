"""Outputs of a stage, installed into build/ atomically, and imported from builds made elsewhere."""

import json
import os
import time
from collections.abc import Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from safelm.builder.digest import MANIFEST
from safelm.builder.files import link, remove_stale, rename_synced, temporary_directory
from safelm.builder.manifest import DamagedShard, Manifest, ManifestEntry
from safelm.builder.paths import build, cache, scratch
from safelm.builder.store import Store

LOCK_FILE = Path("dvc.lock")


def import_records(stage: str, store: Store) -> int:
    """Add the entries of the manifest that dvc.lock names for a stage; return how many were new.

    A build that was pulled is thereby cached as well.
    """
    return store.add_entries(_pulled_entries(stage, store))


def _pulled_entries(stage: str, store: Store) -> Iterator[ManifestEntry]:
    for out in _locked_outs(LOCK_FILE):
        if build(stage).is_relative_to(out["path"]) and out["md5"].endswith(".dir"):
            name = (build(stage) / MANIFEST).relative_to(out["path"]).as_posix()
            try:
                listing = json.loads(store.object(out["md5"]).read_bytes())
                md5 = next(item["md5"] for item in listing if item["relpath"] == name)
                manifest = Manifest.parse(store.object(md5).read_bytes())
            except (OSError, ValueError, KeyError, TypeError, StopIteration, DamagedShard):
                continue  # not in this cache: the shards are made
            yield from manifest.entries()


def _locked_outs(lock: Path) -> list[dict[str, Any]]:
    """Read the outputs that dvc.lock names.

    DVC writes it in place, and a branch built beside this one may be doing so now. A file that
    stays damaged counts as empty: shards are made, and `make doctor` reports it.
    """
    for _ in range(40):
        try:
            values = yaml.load(lock.read_bytes(), Loader=yaml.CSafeLoader) or {}
            stages = values.get("stages", {}).values()
            outs = chain.from_iterable(entry.get("outs", []) for entry in stages)
            return [out for out in outs if out.get("path") and out.get("md5")]
        except FileNotFoundError:
            return []
        except (yaml.YAMLError, AttributeError, TypeError):
            time.sleep(0.05)
    return []


def assemble(
    manifest: Manifest, folder: Path, store: Store, inside: Mapping[str, Manifest] | None = None
) -> None:
    """Install the files of a manifest into a folder, atomically.

    Files are linked into a temporary directory, which one rename puts in place. `inside` are
    further manifests by the name of a folder within.
    """
    # On the file system of build/, and inside of no stage's output.
    root = build(".attempts")
    remove_stale(root)
    with (
        temporary_directory(root, manifest.stage.replace("/", "-")) as fresh,
        temporary_directory(root, "before") as before,
    ):
        link_files(manifest, fresh / "new", store)
        for name, other in (inside or {}).items():
            link_files(other, fresh / "new" / name, store)
        folder.parent.mkdir(parents=True, exist_ok=True)
        if folder.exists():
            # Renamed, not removed in place: half of it must never be seen.
            os.rename(folder, before / "old")
        rename_synced(fresh / "new", folder)


def link_files(manifest: Manifest, folder: Path, store: Store | None = None) -> None:
    """Link the files of a manifest into a new folder, and write the manifest beside them."""
    store = store or Store(cache(), scratch())
    folder.mkdir(parents=True)
    for name, file in manifest.files():
        target = folder / name
        if "/" in name:
            target.parent.mkdir(parents=True, exist_ok=True)
        link(store.object(file.md5), target)
    manifest.write(folder)
