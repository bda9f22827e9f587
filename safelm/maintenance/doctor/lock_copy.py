"""A whole copy of dvc.lock, which DVC writes in place: a crash or a full disk leaves it torn.

The copy is taken when a build begins and after each stage. Where only the last lines are newer,
their stages take their shards from the cache.
"""

import time
from contextlib import suppress

from safelm.builder.files import write_synced
from safelm.builder.paths import scratch
from safelm.builder.provenance import LOCK_FILE
from safelm.maintenance.quarantine import quarantine
from safelm.maintenance.verify.lock_file import DamagedLockFile, parse_lock, read_lock

COPY = scratch("dvc.lock")
CONFLICT = b"<<<<<<<"  # of a merge, which the user resolves


def keep_lock_file() -> None:
    """Copy dvc.lock to .safelm, unless it is missing or DVC is writing it now."""
    data = LOCK_FILE.read_bytes() if LOCK_FILE.is_file() else b""
    if COPY.is_file() and COPY.read_bytes() == data:
        return
    with suppress(DamagedLockFile):
        # First: a torn file must not replace the whole copy.
        parse_lock(data, LOCK_FILE)
        write_synced(COPY, data)


def can_restore() -> bool:
    """Return whether dvc.lock is torn and the copy of it is whole."""
    try:
        read_lock()
        return False
    except DamagedLockFile:
        is_torn = CONFLICT not in LOCK_FILE.read_bytes()
    except OSError:
        return False  # missing, as after `git rm`, or not readable
    try:
        return is_torn and bool(read_lock(COPY))
    except (OSError, DamagedLockFile):
        return False


def restore_lock_file() -> str:
    """Put the copy in the place of a torn dvc.lock; return a sentence, "" where nothing is torn."""
    if not can_restore():
        return ""
    size = LOCK_FILE.stat().st_size
    kept = quarantine(LOCK_FILE)
    write_synced(LOCK_FILE, COPY.read_bytes())
    then = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(COPY.stat().st_mtime))
    return f"{LOCK_FILE}: was torn ({size:,} bytes) and is again as of {then}; moved to {kept}"
