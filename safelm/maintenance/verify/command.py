"""The command `safelm verify`: hash what the build needs, and make what is damaged again."""

import sys
from functools import partial
from pathlib import Path

from safelm.builder.dvc_locks import wait_until_idle
from safelm.builder.files import make_parent
from safelm.builder.locks import LockedError, project_locked
from safelm.builder.paths import scratch
from safelm.builder.provenance import LOCK_FILE
from safelm.builder.store import Store, project_store
from safelm.maintenance.dvc import DvcError, declared_stages
from safelm.maintenance.verify.check import check, check_rest
from safelm.maintenance.verify.hashes import Stamps, progress_bar
from safelm.maintenance.verify.lock_file import DamagedLockFile, read_lock
from safelm.maintenance.verify.repair import repair
from safelm.maintenance.verify.report import Fault, Report

SHOWN = 20  # findings that are printed; the log has them all


def verify(
    *, repair_found: bool = False, quick: bool = False, earlier: bool = False, built: bool = True
) -> int:
    """Hash every object that the current build needs, and print what is damaged or missing.

    Args:
        repair_found: quarantine damaged objects and make only them again.
        quick: hash only files whose time, inode or size has changed.
        earlier: also the objects of earlier builds, which DVC may bring back.
        built: also the files in build/, not the cache alone.

    Returns:
        0 if all is whole, else the sum of: 1 something is corrupt, 2 something is missing, 4
        something cannot be verified.
    """
    if not LOCK_FILE.is_file():
        print("nothing is built yet: there is no dvc.lock; run `make repro`")
        return Fault.UNVERIFIABLE
    try:
        return _verify(repair_found, quick, earlier, built)
    except DamagedLockFile as error:
        print(f"{error}; `make doctor` names the remedy", file=sys.stderr)
    except (LockedError, DvcError, OSError) as error:
        print(error, file=sys.stderr)
    return Fault.UNVERIFIABLE


def _verify(repair_found: bool, quick: bool, earlier: bool, built: bool) -> int:
    store = project_store()
    # A build writes dvc.lock in place, again and again.
    with project_locked("is verifying files"):
        locked = read_lock()
    declared = declared_stages()
    recheck = partial(_check_undisturbed, store, declared, earlier, built)
    report = recheck(quick)
    if report.findings and repair_found:
        return repair(report, recheck, store, print).code
    # Repair does nothing for files that cannot be verified.
    if report.code & ~Fault.UNVERIFIABLE:
        print("`make verify REPAIR=1` quarantines what is damaged and makes only that again")
    if unbuilt := sorted(declared - locked.keys()):
        print(f"not built yet, so not verified: {', '.join(unbuilt)}")
    return report.code


def _check_undisturbed(
    store: Store, declared: set[str], earlier: bool, built: bool, quick: bool = False
) -> Report:
    """Check while nothing is built here, and again if DVC, which waits for nobody, ran meanwhile.

    A `dvc pull` that runs has put only some of the files in their places.
    """
    with project_locked("is verifying files"):
        while True:
            began = wait_until_idle()
            report = _check(store, declared, earlier, built, quick)
            if not report.findings or wait_until_idle() == began:
                break
    _print_report(report)
    return report


def _check(store: Store, declared: set[str], earlier: bool, built: bool, quick: bool) -> Report:
    """Check the stages of dvc.yaml; dvc.lock also remembers rows that left params.yaml."""
    stages = {name: stage for name, stage in read_lock().items() if name in declared}
    stamps = Stamps.read() if quick else Stamps()
    with progress_bar("verify") as progress:
        report = check(stages, store, build=built, stamps=stamps, progress=progress)
        stamps.write()
        if earlier:
            check_rest(report, store, progress)
    return report


def _print_report(report: Report) -> None:
    for finding in report.findings[:SHOWN]:
        print(finding)
    log = save_log(report)
    if len(report.findings) > SHOWN:
        print(f"and {len(report.findings) - SHOWN:,} more, all of them in {log}")
    print(report.summary(), flush=True)


def save_log(report: Report) -> Path:
    """Write every finding, one a line, to the log of the check; return its path."""
    path = scratch("logs", "verify.log")
    make_parent(path)
    path.write_text("".join(f"{finding}\n" for finding in report.findings), encoding="utf-8")
    return path
