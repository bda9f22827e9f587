"""Readers of dvc.lock and of folder listings in DVC's cache, neither of which is trusted.

Both name paths and digests that DVC follows without a check. A listing that was pulled with `../`
in a name makes `dvc checkout` write outside of the project. So every name and digest is checked
before anything acts on it.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from safelm.builder.files import Json, is_digest, is_safe_name
from safelm.builder.provenance import DIR, LOCK_FILE
from safelm.maintenance.verify.report import describe


class DamagedLockFile(ValueError):
    """A file of DVC does not hold what DVC writes; the message is one line and says where."""


@dataclass(frozen=True)
class Out:
    """An output in dvc.lock; `md5` ends in `.dir` for a folder, and None means that it has none."""

    path: Path
    md5: str | None


@dataclass(frozen=True)
class Stage:
    """A stage in dvc.lock: its outputs, the paths that it reads, and what they held.

    `read` has the md5 of each path, and the value of each parameter.
    """

    name: str
    outs: tuple[Out, ...]
    deps: tuple[str, ...]
    read: Mapping[str, Any]


# The files of a folder, name → md5.
Listing = dict[str, str]
Stages = dict[str, Stage]


def read_lock(path: Path = LOCK_FILE) -> Stages:
    """Read the stages of dvc.lock, each after those whose outputs it reads.

    Raises:
        DamagedLockFile: the file does not hold what DVC writes.
        OSError: the file cannot be read.
    """
    return dict(parse_lock(path.read_bytes(), path))


# A build checks the same bytes for several reasons, and each time would cost it 0.2 seconds.
@lru_cache(maxsize=2)
def parse_lock(data: bytes, path: Path = LOCK_FILE) -> Mapping[str, Stage]:
    """Parse the bytes of a dvc.lock, as `read_lock` does.

    Raises:
        DamagedLockFile: they are not what DVC writes; the message begins with `path`.
    """
    try:
        values = yaml.load(data, Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise DamagedLockFile(f"{path}: is not YAML ({describe(error)})") from None
    # An empty file is None in YAML, so this finds a file that a crash left empty, too.
    if not isinstance(values, dict) or values.get("schema") != "2.0":
        size = len(data)
        raise DamagedLockFile(f"{path}: is not a lock file of DVC ({size:,} bytes, no schema 2.0)")
    entries = values.get("stages", {})
    if not isinstance(entries, dict):
        raise DamagedLockFile(f"{path}: stages: expected a table (got {type(entries).__name__})")
    items = entries.items()
    return _in_order({name: read_entry(f"{path}: {name}", name, entry) for name, entry in items})


def read_entry(where: str, name: Any, entry: Any) -> Stage:
    """Read a stage as dvc.lock and the run cache hold it.

    Raises:
        DamagedLockFile: DVC would fail on the entry; the message begins with `where`.
    """
    if not isinstance(name, str) or not isinstance(entry, dict):
        raise DamagedLockFile(f"{where}: expected a table (got {type(entry).__name__})")
    if not isinstance(entry.get("cmd"), str | list):
        raise DamagedLockFile(f"{where}: has no cmd")
    read = _params(where, entry.get("params", {}))
    deps = []
    outs = []
    for dep in _list(where, "deps", entry):
        path = _path(where, "deps", dep)
        deps.append(path)
        read[path] = _md5(where, dep, required=False)
    for out in _list(where, "outs", entry):
        path = _path(where, "outs", out)
        outs.append(Out(Path(path), _md5(where, out, required=True)))
    return Stage(name, tuple(outs), tuple(deps), read)


def _params(where: str, params: Any) -> Json:
    files = params.values() if isinstance(params, dict) else [None]
    read: Json = {}
    for values in files:
        if not isinstance(values, dict):
            raise DamagedLockFile(f"{where}: params: expected a table for each file")
        read |= values
    return read


def _list(where: str, key: str, entry: Json) -> list[Any]:
    values = entry.get(key, [])
    if not isinstance(values, list):
        raise DamagedLockFile(f"{where}: {key}: expected a list (got {type(values).__name__})")
    return values


def _path(where: str, key: str, value: Any) -> str:
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not path:
        raise DamagedLockFile(f"{where}: {key}: an entry has no path")
    return path


def _md5(where: str, value: Json, *, required: bool) -> str | None:
    """Return the md5 of a file, after a check of the other values beside it."""
    where = f"{where}: {value['path']}"
    md5 = value.get("md5")
    algorithm = value.get("hash", "md5")
    if md5 is None and algorithm == "md5" and required:
        raise DamagedLockFile(f"{where}: has no md5")
    is_valid = isinstance(md5, str) and is_digest(md5.removesuffix(DIR))
    if md5 is not None and not is_valid:
        raise DamagedLockFile(f"{where}: expected an md5 (got {str(md5)[:40]!r})")
    if not isinstance(algorithm, str):
        raise DamagedLockFile(f"{where}: hash: expected a name")
    counts = [value.get(key, 0) for key in ("size", "nfiles")]
    if not all(isinstance(count, int) for count in counts):
        raise DamagedLockFile(f"{where}: size and nfiles: expected whole numbers")
    return md5


def _in_order(stages: Stages) -> Stages:
    """Sort stages so that each comes after those whose outputs it reads."""
    makers = defaultdict[Path, set[str]](set)
    makers_within = defaultdict[Path, set[str]](set)
    for stage in stages.values():
        for out in stage.outs:
            makers[out.path].add(stage.name)
            for folder in out.path.parents:
                makers_within[folder].add(stage.name)
    graph: dict[str, set[str]] = {}
    for stage in stages.values():
        needed = set[str]()
        for dep in map(Path, stage.deps):
            # A stage reads an output when it names the output, a folder around it, or a file in it.
            needed |= makers_within[dep]
            for path in (dep, *dep.parents):
                needed |= makers[path]
        graph[stage.name] = needed - {stage.name}
    try:
        return {name: stages[name] for name in TopologicalSorter(graph).static_order()}
    except CycleError:
        return stages  # DVC refuses such a graph with an error of its own


def read_listing(data: bytes) -> Listing:
    """Read the files of a folder, name → md5, from its `.dir` object.

    Raises:
        DamagedLockFile: it is no listing, or names a file twice or outside of the folder.
    """
    try:
        entries = json.loads(data)
        files = {entry["relpath"]: entry["md5"] for entry in entries}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedLockFile(f"is not a listing of files ({describe(error)})") from None
    parents = set[str]()
    for name, md5 in files.items():
        if not is_safe_name(name):
            raise DamagedLockFile(f"names a file outside of its folder: {str(name)[:80]!r}")
        if not is_digest(md5):
            raise DamagedLockFile(f"{name}: expected an md5 (got {str(md5)[:40]!r})")
        parents.update(map(str, PurePosixPath(name).parents))
    # A name that is a file and a folder, too, would be written twice.
    if len(files) != len(entries) or parents & files.keys():
        raise DamagedLockFile("names a file twice")
    return files


def write_listing(files: Listing) -> bytes:
    """Write a `.dir` object as DVC does (its page "Internal directories and files")."""
    entries = [{"md5": files[name], "relpath": name} for name in sorted(files)]
    return json.dumps(entries).encode()


def folders(stages: Stages) -> Iterator[tuple[Stage, Out, str]]:
    """Yield the outputs that are folders in the cache, with their digests."""
    for stage in stages.values():
        for out in stage.outs:
            if out.md5 and out.md5.endswith(DIR):
                yield stage, out, out.md5
