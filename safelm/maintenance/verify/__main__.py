"""Re-hash every object that the current build needs; with --repair, make those that are damaged
again.

    python -m safelm.maintenance.verify            what `make verify` calls
    python -m safelm.maintenance.verify --repair   move bad objects aside and make only them again

The exit code is 0 if all is whole, else the sum of: 1 something is corrupt, 2 something is missing,
4 something cannot be verified."""

import argparse
import sys
from functools import partial

from tqdm import tqdm

from safelm.builder.paths import cache, scratch
from safelm.builder.store import Store
from safelm.maintenance.verify.busy import Busy, all_stages_locked
from safelm.maintenance.verify.check import Fault, Report, check, check_rest
from safelm.maintenance.verify.lock_file import LOCK, DamagedLockFile, read_lock
from safelm.maintenance.verify.repair import RepairError, declared, repair, save_log
from safelm.maintenance.verify.stamps import Stamps

SHOWN = 20


def main() -> None:
    """Check, tell, and repair if asked to."""
    parser = argparse.ArgumentParser(
        prog="python -m safelm.maintenance.verify",
        description=__doc__,
        formatter_class=argparse.RawTextHelpFormatter,
    )
    parser.add_argument(
        "--repair", action="store_true", help="move bad objects aside and make only them again"
    )
    parser.add_argument(
        "--quick", action="store_true", help="hash only files whose time, inode or size has changed"
    )
    parser.add_argument(
        "--all",
        action="store_true",
        help="also the objects of earlier builds, which DVC may bring back",
    )
    parser.add_argument(
        "--objects", action="store_true", help="only the cache, as after `dvc fetch`: not build/"
    )
    asked = parser.parse_args()
    try:
        with all_stages_locked():
            pass
        sys.exit(_verify(asked))
    except (DamagedLockFile, Busy, RepairError, OSError) as error:
        print(error, file=sys.stderr)
        sys.exit(Fault.UNVERIFIABLE)


def _verify(asked: argparse.Namespace) -> int:
    if not LOCK.is_file():
        print("nothing is built yet: there is no dvc.lock; run `make repro`")
        return Fault.UNVERIFIABLE
    store, names = Store(cache(), scratch()), declared()

    def look(quick: bool = False) -> Report:
        stages = {name: stage for name, stage in read_lock().items() if name in names}
        with tqdm(
            desc="verify", unit="B", unit_scale=True, leave=False, disable=not sys.stderr.isatty()
        ) as bar:
            stamps = Stamps.read() if quick else Stamps()
            report = check(
                stages, store, build=not asked.objects, stamps=stamps, progress=partial(_move, bar)
            )
            stamps.write()
            if asked.all:
                check_rest(report, store, partial(_move, bar))
        _tell(report)
        return report

    report = look(asked.quick)
    if report.findings and asked.repair:
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


if __name__ == "__main__":
    main()
