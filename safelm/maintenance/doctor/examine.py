"""All checks in order: the few that come before every build, and the rest."""

from collections.abc import Callable, Iterator
from functools import partial

from safelm.builder.locks import LockedError, all_stages_locked
from safelm.maintenance.doctor import dvc, leftovers, surroundings
from safelm.maintenance.doctor.diagnosis import Diagnosis
from safelm.maintenance.quarantine import quarantine

Check = Callable[[], Iterator[Diagnosis]]

# Milliseconds in all, and each names what stops a build: these come before every one.
HASTY: tuple[Check, ...] = (
    surroundings.variables,
    dvc.lock_file,
    dvc.rwlock,
    dvc.run_cache,
    dvc.listings,
)
THOROUGH: tuple[Check, ...] = (
    surroundings.python,
    surroundings.configuration,
    surroundings.disk,
    surroundings.variables,
    dvc.lock_file,
    dvc.rwlock,
    partial(dvc.run_cache, None),
    dvc.listings,
)
# While no build runs, whatever stands in these places is a left-over.
QUIET: tuple[Check, ...] = (leftovers.half_written, leftovers.attempts, leftovers.records)


def check_before_build() -> list[Diagnosis]:
    """What would stop a build now."""
    if unreadable := list(surroundings.readable()):
        return unreadable  # nobody knows where the cache is
    return [sign for check in HASTY for sign in check()]


def examine(fix: bool = False) -> Iterator[Diagnosis]:
    """Every sign, as it is found; with `fix`, what can be moved aside is."""
    if unreadable := list(surroundings.readable()):
        yield from unreadable  # nobody knows where the cache is
        return
    for check in THOROUGH:
        yield from _mended(check, fix)
    try:
        with (
            all_stages_locked("is looking for leftovers"),
            dvc.alone(dvc.TEMPORARY / "lock") as free,
        ):
            for check in QUIET if free else ():
                yield from _mended(check, fix)
    except LockedError:
        pass  # what a build is writing now is no left-over
    yield from _mended(dvc.dvc_responds, fix)


def _mended(check: Check, fix: bool) -> Iterator[Diagnosis]:
    for sign in list(check()):
        if fix and sign.aside is not None and sign.aside.exists():
            sign = Diagnosis(
                sign.where, sign.what, f"moved to {quarantine(sign.aside)}", mended=True
            )
        yield sign
