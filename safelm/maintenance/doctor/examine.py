"""The command `safelm doctor`: all checks in order, and the few that come before every build."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from itertools import chain

from safelm.builder.dvc_locks import LOCK, try_lock
from safelm.builder.locks import LockedError, all_stages_locked
from safelm.maintenance.doctor import dvc, leftovers, surroundings
from safelm.maintenance.doctor.diagnosis import Diagnoses, Diagnosis
from safelm.maintenance.doctor.run_cache import run_cache
from safelm.maintenance.quarantine import quarantine
from safelm.maintenance.verify.fetched import objects

Check = Callable[[], Diagnoses]

# They take milliseconds in total, and each finds a fault that would stop a build.
BEFORE_BUILD: tuple[Check, ...] = (
    surroundings.variables,
    dvc.lock_file,
    dvc.rwlock,
    run_cache,
    dvc.listings,
)
ALL: tuple[Check, ...] = (
    surroundings.python,
    surroundings.configuration,
    surroundings.disk,
    surroundings.variables,
    dvc.lock_file,
    dvc.rwlock,
    partial(run_cache, None),
    dvc.listings,
)
# Files in these places belong to a running build; they are leftovers only if none runs.
BETWEEN_BUILDS: tuple[Check, ...] = (
    leftovers.half_written,
    leftovers.temporary_directories,
    leftovers.index_entries,
)


def doctor(*, fix: bool = False) -> int:
    """Print a line for every fault, with its remedy.

    Args:
        fix: move leftovers to .safelm/quarantine; nothing is deleted.

    Returns:
        1 if something is left to be done, else 0.
    """
    diagnoses = []
    for diagnosis in examine(fix):
        print(diagnosis, flush=True)
        diagnoses.append(diagnosis)
    if not diagnoses:
        print("nothing is wrong")
    for note in leftovers.quarantined():
        print(note)
    return int(any(not diagnosis.is_fixed for diagnosis in diagnoses))


def check_before_build() -> list[Diagnosis]:
    """Find faults that would stop a build, once `surroundings.readable` has found none.

    The build runs that check itself and earlier, because its lock lies beside the cache.
    """
    found = list(chain.from_iterable(check() for check in BEFORE_BUILD))
    # Last, because a large fetch takes long to hash.
    return found or list(objects())


def examine(fix: bool = False) -> Diagnoses:
    """Yield faults as they are found; with `fix`, quarantine leftovers."""
    # The other checks need the cache, and only DVC's settings say where it is.
    if unreadable := list(surroundings.readable()):
        yield from unreadable
        return
    for check in ALL:
        yield from run_check(check, fix)
    try:
        with (
            all_stages_locked("is looking for leftovers"),
            try_lock(LOCK) as is_held,
        ):
            for check in BETWEEN_BUILDS if is_held else ():
                yield from run_check(check, fix)
    except LockedError:
        pass  # what a build is writing now is no leftover
    yield from run_check(dvc.dvc_responds, fix)


def run_check(check: Check, fix: bool) -> Diagnoses:
    """Yield the faults that a check finds; with `fix`, quarantine or repair each one first."""
    for diagnosis in list(check()):
        path = diagnosis.leftover
        if fix and path is not None and path.exists():
            diagnosis = replace(diagnosis, remedy=f"moved to {quarantine(path)}", is_fixed=True)
        elif fix and diagnosis.mend:
            diagnosis.mend()
            diagnosis = replace(diagnosis, remedy="mended", is_fixed=True)
        yield diagnosis
