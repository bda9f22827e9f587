"""The files that DVC writes for itself: dvc.lock, the lock of its processes, the run cache,
folders' listings.
"""

import fcntl
import hashlib
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from safelm.builder.paths import cache, scratch
from safelm.builder.store import Store
from safelm.maintenance.doctor.diagnosis import Diagnosis, left_over
from safelm.maintenance.verify.lock_file import (
    LOCK,
    DamagedLockFile,
    folders,
    read_entry,
    read_listing,
    read_lock,
)

TEMPORARY = Path(".dvc/tmp")
BTIME = TEMPORARY / "btime"  # DVC names the folder of its databases after the time of this file
DIGEST = re.compile(r"[0-9a-f]{64}")
DATABASE = re.compile(r"malformed|not a database|disk image|Could not open disk|disk I/O error")
HASTE = 200  # entries of the run cache that are read before every build, the newest: a crash tears no older one


def lock_file() -> Iterator[Diagnosis]:
    """dvc.lock: written in place by DVC, so a crash leaves it empty or cut."""
    if not LOCK.exists():
        return
    try:
        read_lock()
    except DamagedLockFile as torn:
        where, _, what = str(torn).partition(": ")
        git = "; then `git checkout dvc.lock` if it was committed, and `make repro`: finished shards are kept"
        yield Diagnosis(where, what, f"`make doctor FIX=1` moves it aside{git}", LOCK)
    except OSError as error:
        yield Diagnosis(str(LOCK), f"cannot be read ({error.strerror})", "make it a readable file")


def rwlock() -> Iterator[Diagnosis]:
    """.dvc/tmp/rwlock: which process reads and writes what. Torn, it stops every command of DVC."""
    path = TEMPORARY / "rwlock"
    with alone(TEMPORARY / "rwlock.lock") as free:
        if not free or not path.is_file():
            return
        try:
            holders = list(_holders(json.loads(path.read_bytes())))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            yield left_over(
                path,
                f"is torn ({path.stat().st_size} bytes), and DVC does nothing until it is gone",
            )
            return
        for pid, command in holders:
            if _is_another(pid):
                what = f"is held for `{command}`, which is dead; its number {pid} belongs to another program now"
                yield left_over(path, what)
                return


def _holders(values: dict[str, Any]) -> Iterator[tuple[int, str]]:
    if values.keys() - {"read", "write"}:
        raise ValueError
    for key in ("write", "read"):
        for holders in values.get(key, {}).values():
            for holder in holders if key == "read" else [holders]:
                if (
                    type(holder["pid"]) is not int
                    or type(holder["cmd"]) is not str
                    or len(holder) != 2
                ):
                    raise ValueError
                yield holder["pid"], holder["cmd"]


def _is_another(pid: int) -> bool:
    """Whether a process lives that is not DVC. A dead one DVC sees by itself; for a recycled number
    it waits.
    """
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return bool(words) and b"dvc" not in words


@contextmanager
def alone(path: Path) -> Iterator[bool]:
    """Hold a lock file of DVC, so that no DVC writes what it guards; False when one does."""
    if not path.parent.is_dir():
        yield True
        return
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def run_cache(most: int | None = HASTE) -> Iterator[Diagnosis]:
    """.dvc/cache/runs: what each stage gave before, a folder for each input. DVC falls over torn
    and empty ones.

    `most`: in how many folders the files are read, the newest first.
    """
    folders = [path for path in (cache().parent.parent / "runs").glob("??/*") if path.is_dir()]
    folders.sort(key=lambda folder: folder.stat().st_mtime, reverse=True)
    for index, folder in enumerate(folders):
        read = most is None or index < most
        bad = {path: what for path in sorted(folder.iterdir()) if (what := _damage(path, read))}
        if len(bad) == len(list(folder.iterdir())):
            what = ", ".join(bad.values()) or "is empty"
            yield left_over(
                folder, f"an entry of DVC's run cache {what}"
            )  # the whole of it, lest it be left empty
        else:
            for path, what in bad.items():
                yield left_over(path, f"an entry of DVC's run cache {what}")


def _damage(path: Path, read: bool) -> str:
    if not DIGEST.fullmatch(path.name):
        return f"was being written ({path.stat().st_size} bytes)"
    return f"is damaged ({path.stat().st_size} bytes)" if read and not _is_run(path) else ""


def _is_run(path: Path) -> bool:
    """Whether an entry is whole: its name is the digest of its content, without the sizes."""
    text = path.read_bytes()
    try:
        values = yaml.load(text, Loader=yaml.CSafeLoader)
        read_entry("", path.name, values)
        if not text.endswith(b"\n"):
            return False
        if _digest(values) == path.name:
            return True
        from ruamel.yaml import (
            YAML,  # as DVC reads it: 1e-05 is a number to YAML 1.2 and text to 1.1
        )

        return _digest(YAML(typ="safe", pure=True).load(text)) == path.name
    except (yaml.YAMLError, ValueError, TypeError, RecursionError):
        return False


def _digest(values: Any) -> str:
    return hashlib.sha256(json.dumps(_without_sizes(values), sort_keys=True).encode()).hexdigest()


def _without_sizes(value: Any) -> Any:
    if isinstance(value, dict):
        return {
            key: _without_sizes(one) for key, one in value.items() if key not in ("size", "nfiles")
        }
    return [_without_sizes(one) for one in value] if isinstance(value, list) else value


def listings() -> Iterator[Diagnosis]:
    """The listings that dvc.lock names: one that leads out of its folder must not reach `dvc
    checkout`.
    """
    try:
        stages = read_lock()
    except (OSError, DamagedLockFile):
        return  # told by lock_file
    store = Store(cache(), scratch())
    for stage, out, md5 in folders(stages):
        try:
            read_listing(store.object(md5).read_bytes())
        except OSError:
            continue  # not in this cache: DVC fetches or makes it
        except DamagedLockFile as torn:
            remedy = "do not run `dvc checkout`; `make verify REPAIR=1` moves it aside and makes it again"
            yield Diagnosis(
                str(store.object(md5)), f"the listing of {out.path} ({stage.name}) {torn}", remedy
            )


def dvc_responds() -> Iterator[Diagnosis]:
    """Whether DVC itself can say what is out of date; if not, its last words."""
    done = subprocess.run([sys.executable, "-m", "dvc", "status"], capture_output=True, text=True)
    said = [line.strip() for line in (done.stdout + done.stderr).splitlines() if line.strip()]
    error = next((line for line in said if line.startswith("ERROR")), said[-1] if said else "")
    if done.returncode == 0:
        return
    if DATABASE.search(error):
        what = f"DVC's databases of known digests are damaged ({error.rpartition(' - ')[2]})"
        remedy = "`make doctor FIX=1` gives them a new place; every file is hashed once more"
        yield Diagnosis(str(BTIME), what, remedy, BTIME)
    else:
        yield Diagnosis(
            "dvc status",
            error[:300] or f"failed (exit code {done.returncode})",
            "see `dvc status --verbose`",
        )
