"""Provenance of what a stage reads: built here, or hashed against dvc.lock.

DVC does not hash the files that it fetches. Anybody who can write to a remote could thus replace a
manifest, and with it the data. Readers check files against their manifest, so only manifests have
to be hashed here: the listing of a folder must have the digest that dvc.lock names, and the
manifest the digest that the listing names.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from functools import cache as remember
from itertools import chain
from pathlib import Path
from typing import Any

import yaml

from safelm.builder.digest import MANIFEST, bytes_md5, cached_digest
from safelm.builder.files import write_synced
from safelm.builder.manifest import DamagedShard, Manifest
from safelm.builder.paths import BUILD, scratch
from safelm.builder.store import project_store

LOCK_FILE = Path("dvc.lock")
DIR = ".dir"  # ends the digest of a folder's listing
INSTALLED = "installed.json"
SHARDS = "shards.json"
REMEDY = "`make verify REPAIR=1` fetches it or makes it again"


def record_made(manifest: Manifest, name: str) -> None:
    """Keep a copy of a manifest that was made here: INSTALLED into build/, or of SHARDS alone."""
    path = scratch("made", manifest.stage, name)
    write_synced(path, manifest.dump())


def made_manifests() -> Iterator[Manifest]:
    """Yield the manifests that were made here last; a damaged copy counts as none."""
    for path in sorted(scratch("made").rglob("*.json")):
        try:
            yield Manifest.parse(path.read_bytes())
        except (OSError, ValueError, KeyError, TypeError, AttributeError, DamagedShard):
            continue


def check_inputs(values: Any) -> None:
    """Check every file and folder of build/ among the values that a stage reads.

    Raises:
        DamagedShard: a manifest is neither made here nor the one that dvc.lock names, or a file is
            not the one that its manifest or dvc.lock names.
    """
    paths = {value for value in walk_values(values) if isinstance(value, Path)}
    for path in sorted(paths):
        if path.is_relative_to(BUILD):
            _check_path(path)


def walk_values(value: Any) -> Iterator[Any]:
    """Yield a value, and those inside it: of mappings, lists, tuples and dataclasses."""
    yield value
    inside: Iterable[Any] = ()
    if isinstance(value, Mapping):
        inside = value.values()
    elif isinstance(value, list | tuple):
        inside = value
    elif is_dataclass(value) and not isinstance(value, type):
        inside = [getattr(value, item.name) for item in fields(value)]
    for item in inside:
        yield from walk_values(item)


def _check_path(path: Path) -> None:
    """Check the manifests around a path and below it, and the file, or files of a folder."""
    # Outer folders first: a manifest is known by the one around it.
    below = sorted(path.rglob("*"), key=lambda file: len(file.parts))
    around = [parent / MANIFEST for parent in reversed(path.parents) if parent not in BUILD.parents]
    manifests = [file for file in (*around, *below) if file.name == MANIFEST and file.is_file()]
    known: dict[Path, str] = {}
    for manifest in manifests:
        known |= _checked_manifest(manifest, known)
    folders = {manifest.parent for manifest in manifests}
    for file in below or [path]:
        if not file.is_file() or file in manifests:
            continue
        # Outside of every manifest, dvc.lock names the file itself.
        if folders.isdisjoint(file.parents):
            _compare_locked(file, file.read_bytes())
        elif file not in known:
            raise DamagedShard(f"{file}: is no file of its stage; remove it, or {REMEDY}")
        # The files of a folder are hashed by their readers, when they are read.
        elif file == path and cached_digest(file) != known[file]:
            raise _changed(file, "its manifest names")


def _checked_manifest(path: Path, known: Mapping[Path, str]) -> dict[Path, str]:
    """Check a manifest; return the sha256 of the files that it describes, by path.

    `known` are those that manifests of outer folders describe.
    """
    data = path.read_bytes()
    if path in known:
        if hashlib.sha256(data).hexdigest() != known[path]:
            raise _changed(path, "the manifest around it names")
    elif not _is_made_here(path, data):
        _compare_locked(path, data)
    return {path.parent / name: file.sha256 for name, file in Manifest.read(path.parent).files()}


def _is_made_here(path: Path, data: bytes) -> bool:
    copy = scratch("made", *path.parent.relative_to(BUILD).parts, INSTALLED)
    try:
        return copy.read_bytes() == data
    except OSError:
        return False


def _compare_locked(path: Path, data: bytes) -> None:
    """Compare a file with what dvc.lock names; what it does not name did not come from a remote."""
    try:
        md5 = locked_md5(path)
    except FileNotFoundError as error:
        raise DamagedShard(f"{path}: its listing is not in the cache; run `dvc fetch`") from error
    if md5 is not None and bytes_md5(data) != md5:
        raise _changed(path, f"dvc.lock names (md5 {md5[:16]}…)")


def _changed(path: Path, whose: str) -> DamagedShard:
    return DamagedShard(f"{path}: is not the file that {whose}; {REMEDY}")


def locked_md5(path: Path) -> str | None:
    """Return the md5 that dvc.lock names for a file in build/; None if it names none.

    Raises:
        FileNotFoundError: the listing of the folder around it is not in the cache.
        DamagedShard: the listing has another digest than dvc.lock names.
    """
    for out, md5 in _locked_outs().items():
        if path == out:
            return md5
        if path.is_relative_to(out) and md5.endswith(DIR):
            return _listing(out, md5).get(path.relative_to(out).as_posix())
    return None


def locked_object(md5: str) -> bytes:
    """Read an object of the cache that dvc.lock, or a listing that it names, names.

    Raises:
        FileNotFoundError: it is not in the cache.
        DamagedShard: its bytes have another digest.
    """
    path = project_store().object(md5)
    data = path.read_bytes()
    got = bytes_md5(data)
    if got != md5.removesuffix(DIR):
        raise DamagedShard(f"{path}: has the md5 {got[:16]}…, which is not its name; {REMEDY}")
    return data


@remember
def _listing(out: Path, md5: str) -> dict[str, str]:
    try:
        return {item["relpath"]: item["md5"] for item in json.loads(locked_object(md5))}
    except (DamagedShard, ValueError, KeyError, TypeError) as error:
        raise DamagedShard(f"the listing of {out}: {error}") from error


def _locked_outs() -> Mapping[Path, str]:
    """Read the outputs that dvc.lock names, with their md5.

    DVC writes it in place, and a branch built beside this one may be doing so now. A file that
    stays damaged counts as empty: shards are made, and `make doctor` reports it.
    """
    # Two seconds in all, more than DVC needs to write it.
    for _ in range(40):
        try:
            state = os.stat(LOCK_FILE)
            return _parse_outs(LOCK_FILE.absolute(), state.st_mtime_ns, state.st_ctime_ns)
        except FileNotFoundError:
            return {}
        except (yaml.YAMLError, AttributeError, TypeError):
            time.sleep(0.05)
    return {}


@remember
def _parse_outs(lock: Path, *stamp: int) -> Mapping[Path, str]:
    """Parse dvc.lock; `stamp` makes a changed file another entry of the cache."""
    values = yaml.load(lock.read_bytes(), Loader=yaml.CSafeLoader) or {}
    stages = values.get("stages", {}).values()
    outs = chain.from_iterable(entry.get("outs", []) for entry in stages)
    return {Path(out["path"]): out["md5"] for out in outs if out.get("path") and out.get("md5")}
