"""DVC's run cache, which holds what each stage gave before; DVC fails on torn and empty entries."""

import re
from pathlib import Path
from typing import Any

import yaml

from safelm.builder.digest import json_digest
from safelm.builder.paths import cache
from safelm.maintenance.doctor.diagnosis import Diagnoses, leftover
from safelm.maintenance.verify.lock_file import read_entry

DIGEST = re.compile(r"[0-9a-f]{64}")
# Folders whose files are read before every build, the newest: a crash tears no older ones.
NEWEST = 200


def run_cache(newest: int | None = NEWEST) -> Diagnoses:
    """Find damaged entries: one file for each run of a stage, in a folder for its inputs.

    Args:
        newest: read the files of so many folders, newest first; None reads all.
    """
    # <cache dir>/runs; cache() is <cache dir>/files/md5.
    root = cache().parent.parent / "runs"
    folders = [path for path in root.glob("??/*") if path.is_dir()]
    folders.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    for index, folder in enumerate(folders):
        is_read = newest is None or index < newest
        damage = {path: _damage(path, is_read) for path in sorted(folder.iterdir())}
        damaged = {path: what for path, what in damage.items() if what}
        if len(damaged) == len(damage):
            # The whole folder, because DVC fails on an empty one too.
            what = ", ".join(damaged.values()) or "is empty"
            damaged = {folder: what}
        for path, what in damaged.items():
            yield leftover(path, f"an entry of DVC's run cache {what}")


def _damage(path: Path, is_read: bool) -> str:
    size = path.stat().st_size
    if not DIGEST.fullmatch(path.name):
        return f"was being written ({size} bytes)"
    if is_read and not _is_valid(path):
        return f"is damaged ({size} bytes)"
    return ""


def _is_valid(path: Path) -> bool:
    """Check that the name of an entry is the digest of its content, without the sizes."""
    text = path.read_bytes()
    try:
        values = yaml.load(text, Loader=yaml.CSafeLoader)
        read_entry("", path.name, values)
        if not text.endswith(b"\n"):
            return False
        if entry_digest(values) == path.name:
            return True
        # DVC reads YAML 1.2, in which 1e-05 is a number; in YAML 1.1 it is text.
        from ruamel.yaml import YAML

        return entry_digest(YAML(typ="safe", pure=True).load(text)) == path.name
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return False


def entry_digest(values: Any) -> str:
    """Return the digest by which DVC names an entry."""
    return json_digest(_without_sizes(values))


def _without_sizes(value: Any) -> Any:
    if isinstance(value, list):
        return [_without_sizes(item) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {key: item for key, item in value.items() if key not in ("size", "nfiles")}
    return {key: _without_sizes(item) for key, item in kept.items()}
