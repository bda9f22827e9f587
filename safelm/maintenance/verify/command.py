"""The command `safelm verify`: hash what the build needs, and make what is damaged again."""

import sys
from functools import partial

from tqdm import tqdm

from safelm.builder.locks import LockedError, all_stages_locked
from safelm.builder.paths import cache, scratch
from safelm.builder.store import Store
from safelm.maintenance.verify.check import Fault, Report, check, check_rest
from safelm.maintenance.verify.lock_file import LOCK, DamagedLockFile, read_lock
from safelm.maintenance.verify.repair import RepairError, declared, repair, save_log
from safelm.maintenance.verify.stamps import Stamps

SHOWN = 20


def verify(
    *, repair_found: bool = False, quick: bool = False, earlier: bool = False, built: bool = True
) -> int:
    """Hash every object that the current build needs, and print what is damaged or missing.

    Args:
        repair_found: move damaged objects aside and make only them again.
        quick: hash only files whose time, inode or size has changed.
        earlier: also the objects of earlier builds, which DVC may bring back.
        built: also the files in build/, not the cache alone.

    Returns:
        0 if all is whole, else the sum of: 1 something is corrupt, 2 something is missing, 4
        something cannot be verified.
    """
    try:
        with all_stages_locked("is verifying files"):
            pass
        return _verify(repair_found, quick, earlier, built)
    except (DamagedLockFile, LockedError, RepairError, OSError) as error:
        print(error, file=sys.stderr)
        return Fault.UNVERIFIABLE


def _verify(repair_found: bool, quick: bool, earlier: bool, built: bool) -> int:
    if not LOCK.is_file():
        print("nothing is built yet: there is no dvc.lock; run `make repro`")
        return Fault.UNVERIFIABLE
    store, names = Store(cache(), scratch()), declared()

    def look(trust_stamps: bool = False) -> Report:
        stages = {name: stage for name, stage in read_lock().items() if name in names}
        with tqdm(
            desc="verify", unit="B", unit_scale=True, leave=False, disable=not sys.stderr.isatty()
        ) as bar:
            stamps = Stamps.read() if trust_stamps else Stamps()
            report = check(
                stages, store, build=built, stamps=stamps, progress=partial(_move, bar)
            )
            stamps.write()
            if earlier:
                check_rest(report, store, partial(_move, bar))
        _tell(report)
        return report

    report = look(quick)
    if report.findings and repair_found:
        return repair(report, look, store, print).code
    if report.code & ~Fault.UNVERIFIABLE:
        print("`make verify REPAIR=1` moves what is damaged aside and makes only that again")
    if unbuilt := sorted(names - read_lock().keys()):
        print(f"not built yet, so not verified: {', '.join(unbuilt)}")
    return report.code


def _move(bar: tqdm, done: int, total: int) -> None:
    bar.total = total
    bar.update(done - bar.n)


def _tell(report: Report) -> None:
    """The findings, a screen of them at most, and one line that sums up."""
    for finding in report.findings[:SHOWN]:
        print(finding)
    log = save_log(report)
    if len(report.findings) > SHOWN:
        print(f"and {len(report.findings) - SHOWN:,} more, all of them in {log}")
    print(report.summary(), flush=True)

