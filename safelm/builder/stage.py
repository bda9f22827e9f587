"""Outputs of a stage, installed into build/ atomically, and imported from builds made elsewhere."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

from safelm.builder.digest import MANIFEST
from safelm.builder.files import (
    link,
    make_parent,
    remove_stale,
    rename_synced,
    temporary_directory,
)
from safelm.builder.manifest import DamagedShard, Manifest
from safelm.builder.paths import build
from safelm.builder.provenance import INSTALLED, locked_md5, locked_object, record_made
from safelm.builder.store import Store, project_store

# Set while `safelm retry` runs a stage.
RETRY = "SAFELM_RETRY"


def import_records(stage: str, store: Store) -> int:
    """Add the entries of the manifest that dvc.lock names for a stage; return how many were new.

    The shards of a pulled build thus count as cached, unless `safelm retry` makes them again. A
    manifest with another digest than dvc.lock names is reported, not used, and its shards are made.
    """
    if os.environ.get(RETRY):
        return 0
    try:
        md5 = locked_md5(build(stage) / MANIFEST)
        data = locked_object(md5) if md5 else None
        return store.add_entries(Manifest.parse(data).entries()) if data else 0
    except FileNotFoundError:
        return 0  # not in this cache
    except (ValueError, KeyError, TypeError, DamagedShard) as error:
        print(f"{stage}: {error}; its shards are made here", file=sys.stderr, flush=True)
        return 0


def assemble(
    manifest: Manifest,
    folder: Path,
    store: Store,
    inside: Mapping[str, Manifest] | None = None,
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
        make_parent(folder)
        if folder.exists():
            # Renamed, not removed in place: half of it must never be seen.
            os.rename(folder, before / "old")
        for made in (manifest, *(inside or {}).values()):
            # Before the rename: an installed manifest without its copy counts as fetched.
            record_made(made, INSTALLED)
        rename_synced(fresh / "new", folder)


def link_files(manifest: Manifest, folder: Path, store: Store | None = None) -> None:
    """Link the files of a manifest into a new folder, and write the manifest beside them."""
    store = store or project_store()
    folder.mkdir(parents=True)
    for name, file in manifest.files():
        target = folder / name
        if "/" in name:
            make_parent(target)
        link(store.object(file.md5), target)
    manifest.write(folder)
