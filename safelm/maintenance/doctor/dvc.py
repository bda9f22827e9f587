"""DVC's own files: dvc.lock, the lock of its processes, listings of folders, and its databases."""

import json
import os
import re
import shutil
from pathlib import Path

from safelm.builder.dvc_locks import (
    FOLDER,
    GUARD,
    RWLOCK,
    ended_reason,
    holders,
    remove_ended,
    try_lock,
)
from safelm.builder.environment import UNLIMITED, file_size_limit
from safelm.builder.files import nearest_folder
from safelm.builder.provenance import LOCK_FILE
from safelm.builder.store import project_store
from safelm.maintenance.doctor.diagnosis import FIX, Diagnoses, Diagnosis, leftover
from safelm.maintenance.doctor.lock_copy import can_restore, restore_lock_file
from safelm.maintenance.dvc import try_dvc
from safelm.maintenance.verify.lock_file import DamagedLockFile, folders, read_listing, read_lock

BTIME = FOLDER / "btime"  # DVC names the folder of its databases after the time of this file
SITE = "/var/tmp/dvc"  # where DVC keeps its databases, unless a variable says otherwise
ROOM = 1 << 20  # bytes under which they cannot be written
DATABASE = re.compile(r"malformed|not a database|disk image|Could not open disk|disk I/O error")


def lock_file() -> Diagnoses:
    """Check dvc.lock, which DVC writes in place: a crash leaves it empty or cut."""
    if not LOCK_FILE.exists():
        return
    try:
        read_lock()
    except DamagedLockFile as error:
        where, _, what = str(error).partition(": ")
        if can_restore():
            remedy = "`make doctor FIX=1` or a build restores the copy in .safelm"
            yield Diagnosis(where, what, remedy, mend=restore_lock_file)
            return
        then = "then `git checkout dvc.lock` if it was committed, and `make repro`"
        remedy = f"{FIX}; {then}: finished shards are kept"
        yield Diagnosis(where, what, remedy, LOCK_FILE)
    except OSError as error:
        yield Diagnosis(
            str(LOCK_FILE), f"cannot be read ({error.strerror})", "make it a readable file"
        )


def rwlock() -> Diagnoses:
    """Check .dvc/tmp/rwlock, which says what each process of DVC reads and writes.

    A torn file stops every command of DVC. So does a process that DVC takes for one of its own and
    waits for: a zombie, or another program that got the number of a dead process.
    """
    with try_lock(GUARD) as is_held:
        if not is_held or not RWLOCK.is_file():
            return
        try:
            found = list(holders(json.loads(RWLOCK.read_bytes())))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            size = RWLOCK.stat().st_size
            what = f"is torn ({size} bytes), and DVC does nothing until it is gone"
            yield leftover(RWLOCK, what)
            return
        reasons = {reason: holder for holder in found if (reason := ended_reason(holder))}
    for reason, holder in reasons.items():
        what = f"is held for `{holder['cmd']}`, which has ended; {reason}"
        yield Diagnosis(
            RWLOCK, what, "`make doctor FIX=1` or a build removes it from there", mend=remove_ended
        )


def listings() -> Diagnoses:
    """Check folder listings: `dvc checkout` would follow one that leads out of its folder."""
    try:
        stages = read_lock()
    except (OSError, DamagedLockFile):
        return  # reported by lock_file
    store = project_store()
    for stage, out, md5 in folders(stages):
        path = store.object(md5)
        try:
            read_listing(path.read_bytes())
        except OSError:
            continue  # not in this cache: DVC fetches or makes it
        except DamagedLockFile as error:
            yield Diagnosis(
                path,
                f"the listing of {out.path} ({stage.name}) {error}",
                "do not run `dvc checkout`; `make verify REPAIR=1` makes it again",
            )


def dvc_responds() -> Diagnoses:
    """Check that DVC itself can say what is out of date; if not, report its last words."""
    done = try_dvc("status")
    if done.returncode == 0:
        return
    lines = [line.strip() for line in (done.stdout + done.stderr).splitlines()]
    errors = [line for line in lines if line.startswith("ERROR")]
    last = [line for line in lines if line][-1:]
    error = (errors + last + [f"failed (exit code {done.returncode})"])[0]
    outside = outside_cause() if DATABASE.search(error) else None
    if outside:
        yield outside
    elif DATABASE.search(error):
        cause = error.rpartition(" - ")[2]
        yield Diagnosis(
            BTIME,
            f"DVC's databases of known digests are damaged ({cause})",
            "`make doctor FIX=1` gives them a new place; every file is hashed once more",
            BTIME,
        )
    else:
        yield Diagnosis("dvc status", error[:300], "see `dvc status --verbose`")


def outside_cause() -> Diagnosis | None:
    """Find a limit or a full disk, for which SQLite blames its own files."""
    if limit := file_size_limit():
        return Diagnosis("ulimit -f", f"{limit}, and DVC's databases need more", UNLIMITED)
    for folder in (FOLDER, Path(os.environ.get("DVC_SITE_CACHE_DIR", SITE))):
        free = shutil.disk_usage(nearest_folder(folder)).free
        if free < ROOM:
            return Diagnosis(
                folder,
                f"{free:,} bytes are free, and DVC's databases need more",
                "make room: `make gc` removes what no build needs",
            )
    return None
