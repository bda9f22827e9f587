"""DVC's own files: dvc.lock, the lock of its processes, listings of folders, and its databases."""

import fcntl
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safelm.builder.paths import cache, scratch
from safelm.builder.store import Store
from safelm.builder.supervision import is_alive
from safelm.maintenance.doctor.diagnosis import FIX, Diagnosis, leftover
from safelm.maintenance.dvc import try_dvc
from safelm.maintenance.verify.lock_file import (
    LOCK,
    DamagedLockFile,
    folders,
    read_listing,
    read_lock,
)

TEMPORARY = Path(".dvc/tmp")
BTIME = TEMPORARY / "btime"  # DVC names the folder of its databases after the time of this file
DATABASE = re.compile(r"malformed|not a database|disk image|Could not open disk|disk I/O error")


def lock_file() -> Iterator[Diagnosis]:
    """Check dvc.lock, which DVC writes in place: a crash leaves it empty or cut."""
    if not LOCK.exists():
        return
    try:
        read_lock()
    except DamagedLockFile as error:
        where, _, what = str(error).partition(": ")
        then = "then `git checkout dvc.lock` if it was committed, and `make repro`"
        remedy = f"{FIX}; {then}: finished shards are kept"
        yield Diagnosis(where, what, remedy, LOCK)
    except OSError as error:
        yield Diagnosis(str(LOCK), f"cannot be read ({error.strerror})", "make it a readable file")


def rwlock() -> Iterator[Diagnosis]:
    """Check .dvc/tmp/rwlock, which says what each process of DVC reads and writes.

    A torn file stops every command of DVC. So does a process that DVC takes for one of its own and
    waits for: a zombie, or another program that got the number of a dead process.
    """
    path = TEMPORARY / "rwlock"
    with try_lock(TEMPORARY / "rwlock.lock") as is_held:
        if not is_held or not path.is_file():
            return
        try:
            holders = list(_holders(json.loads(path.read_bytes())))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            size = path.stat().st_size
            what = f"is torn ({size} bytes), and DVC does nothing until it is gone"
            yield leftover(path, what)
            return
        for pid, command in holders:
            if reason := _stale_reason(pid):
                yield leftover(path, f"is held for `{command}`, which has ended; {reason}")
                return


def _holders(values: dict[str, Any]) -> Iterator[tuple[int, str]]:
    """Yield the processes of a rwlock: one writes a path, any number read one."""
    if values.keys() - {"read", "write"}:
        raise ValueError
    holders = list(values.get("write", {}).values())
    for readers in values.get("read", {}).values():
        holders += readers
    for holder in holders:
        pid = holder["pid"]
        command = holder["cmd"]
        if type(pid) is not int or type(command) is not str or len(holder) != 2:
            raise ValueError
        yield pid, command


def _stale_reason(pid: int) -> str:
    """Say why DVC would wait for a process that holds no lock; "" if it does not, or rightly."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return ""  # dead, which DVC sees by itself
    if not is_alive(pid):
        return f"its process {pid} is a zombie, for which DVC waits"
    if command and b"dvc" not in command:
        return f"its number {pid} belongs to another program now"
    return ""


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold a lock file of DVC, so that DVC writes nothing that it guards; yield False if taken."""
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


def listings() -> Iterator[Diagnosis]:
    """Check folder listings: `dvc checkout` would follow one that leads out of its folder."""
    try:
        stages = read_lock()
    except (OSError, DamagedLockFile):
        return  # reported by lock_file
    store = Store(cache(), scratch())
    for stage, out, md5 in folders(stages):
        path = store.object(md5)
        try:
            read_listing(path.read_bytes())
        except OSError:
            continue  # not in this cache: DVC fetches or makes it
        except DamagedLockFile as error:
            what = f"the listing of {out.path} ({stage.name}) {error}"
            remedy = "do not run `dvc checkout`; `make verify REPAIR=1` makes it again"
            yield Diagnosis(str(path), what, remedy)


def dvc_responds() -> Iterator[Diagnosis]:
    """Check that DVC itself can say what is out of date; if not, report its last words."""
    done = try_dvc("status")
    if done.returncode == 0:
        return
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    errors = [line for line in lines if line.startswith("ERROR")]
    last = [line for line in lines if line][-1:]
    error = (errors + last + [f"failed (exit code {done.returncode})"])[0]
    if DATABASE.search(error):
        cause = error.rpartition(" - ")[2]
        what = f"DVC's databases of known digests are damaged ({cause})"
        remedy = "`make doctor FIX=1` gives them a new place; every file is hashed once more"
        yield Diagnosis(str(BTIME), what, remedy, BTIME)
    else:
        yield Diagnosis("dvc status", error[:300], "see `dvc status --verbose`")
