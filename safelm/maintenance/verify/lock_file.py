"""What the build is made of: dvc.lock, and the listings of folders in DVC's cache, read with
distrust.

Both name paths and digests that DVC follows without a question: a listing that was pulled with
`../` in a name makes `dvc checkout` write outside of the project. So every name and digest is
checked before anybody acts on it."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from pathlib import Path, PurePosixPath
from typing import Any

import yaml

from safelm.builder.files import is_digest, is_safe_name

LOCK = Path("dvc.lock")
DIR = ".dir"  # ends the digest of a folder's listing


class DamagedLockFile(ValueError):
    """A file of DVC does not hold what DVC writes; the message is one line and says where."""


@dataclass(frozen=True)
class Out:
    """An output as dvc.lock names it; `md5` ends in `.dir` when it is a folder, and is None when
    there is none.
    """

    path: Path
    md5: str | None


@dataclass(frozen=True)
class Stage:
    """What dvc.lock says of one stage: its outputs, and the paths that it reads."""

    name: str
    outs: tuple[Out, ...]
    deps: tuple[str, ...]


def read_lock(path: Path = LOCK) -> dict[str, Stage]:
    """The stages of dvc.lock, each after those whose outputs it reads. Raises Torn, or OSError."""
    try:
        values = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
    except (yaml.YAMLError, ValueError) as error:
        raise DamagedLockFile(f"{path}: is not YAML ({_line(error)})") from None
    if not isinstance(values, dict) or values.get("schema") != "2.0":
        raise DamagedLockFile(
            f"{path}: is not a lock file of DVC ({path.stat().st_size:,} bytes, no schema 2.0)"
        )
    entries = values.get("stages", {})
    if not isinstance(entries, dict):
        raise DamagedLockFile(f"{path}: stages: expected a table (got {type(entries).__name__})")
    return _in_order(
        {name: read_entry(f"{path}: {name}", name, entry) for name, entry in entries.items()}
    )


def read_entry(where: str, name: Any, entry: Any) -> Stage:
    """A stage as dvc.lock and the run cache write it, refused where DVC would stumble over it."""
    if not isinstance(name, str) or not isinstance(entry, dict):
        raise DamagedLockFile(f"{where}: expected a table (got {type(entry).__name__})")
    if not isinstance(entry.get("cmd"), str | list):
        raise DamagedLockFile(f"{where}: has no cmd")
    params = entry.get("params", {})
    if not isinstance(params, dict) or not all(
        isinstance(values, dict) for values in params.values()
    ):
        raise DamagedLockFile(f"{where}: params: expected a table for each file")
    deps = [_path(where, "deps", dep) for dep in _list(where, "deps", entry)]
    outs = [
        Out(Path(_path(where, "outs", out)), _digest(where, out, strict=True))
        for out in _list(where, "outs", entry)
    ]
    for dep in entry.get("deps", []):
        _digest(where, dep, strict=False)
    return Stage(name, tuple(outs), tuple(deps))


def _list(where: str, key: str, entry: dict) -> list:
    values = entry.get(key, [])
    if not isinstance(values, list):
        raise DamagedLockFile(f"{where}: {key}: expected a list (got {type(values).__name__})")
    return values


def _path(where: str, key: str, value: Any) -> str:
    path = value.get("path") if isinstance(value, dict) else None
    if not isinstance(path, str) or not path:
        raise DamagedLockFile(f"{where}: {key}: an entry has no path")
    return path


def _digest(where: str, value: dict, *, strict: bool) -> str | None:
    md5 = value.get("md5")
    if md5 is None and value.get("hash", "md5") == "md5" and strict:
        raise DamagedLockFile(f"{where}: {value['path']}: has no md5")
    if md5 is not None and not (isinstance(md5, str) and is_digest(md5.removesuffix(DIR))):
        raise DamagedLockFile(f"{where}: {value['path']}: expected an md5 (got {str(md5)[:40]!r})")
    if not isinstance(value.get("hash", "md5"), str):
        raise DamagedLockFile(f"{where}: {value['path']}: hash: expected a name")
    if any(not isinstance(value.get(key, 0), int) for key in ("size", "nfiles")):
        raise DamagedLockFile(f"{where}: {value['path']}: size and nfiles: expected whole numbers")
    return md5


def _in_order(stages: dict[str, Stage]) -> dict[str, Stage]:
    """Makers before readers. A stage reads an output when it names the output, a folder around it,
    or a file in it.
    """
    makers: dict[Path, set[str]] = {}
    around: dict[Path, set[str]] = {}
    for name, stage in stages.items():
        for out in stage.outs:
            makers.setdefault(out.path, set()).add(name)
            for folder in out.path.parents:
                around.setdefault(folder, set()).add(name)
    needs = {
        name: set().union(*(_makers(Path(dep), makers, around) for dep in stage.deps)) - {name}
        for name, stage in stages.items()
    }
    try:
        return {name: stages[name] for name in TopologicalSorter(needs).static_order()}
    except CycleError:
        return stages  # DVC refuses such a DAG in its own words


def _makers(dep: Path, makers: dict[Path, set[str]], around: dict[Path, set[str]]) -> set[str]:
    return around.get(dep, set()).union(*(makers.get(path, set()) for path in (dep, *dep.parents)))


def read_listing(data: bytes) -> dict[str, str]:
    """The files of a folder, name → md5, from its `.dir` object. Raises Torn for anything but plain
    names.
    """
    try:
        entries = json.loads(data)
        files = {entry["relpath"]: entry["md5"] for entry in entries}
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise DamagedLockFile(f"is not a listing of files ({_line(error)})") from None
    for name, md5 in files.items():
        if not is_safe_name(name):
            raise DamagedLockFile(f"names a file outside of its folder: {str(name)[:80]!r}")
        if not is_digest(md5):
            raise DamagedLockFile(f"{name}: expected an md5 (got {str(md5)[:40]!r})")
    folders = {str(parent) for name in files for parent in PurePosixPath(name).parents}
    if len(files) != len(entries) or folders & files.keys():
        raise DamagedLockFile("names a file twice")
    return files


def listing(files: dict[str, str]) -> bytes:
    """The bytes of a `.dir` object, as DVC writes them (its page "Internal directories and files")."""
    return json.dumps([{"md5": files[name], "relpath": name} for name in sorted(files)]).encode()


def folders(stages: dict[str, Stage]) -> Iterator[tuple[Stage, Out, str]]:
    """The outputs that are folders in the cache, with their digest."""
    for stage in stages.values():
        for out in stage.outs:
            if out.md5 and out.md5.endswith(DIR):
                yield stage, out, out.md5


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
