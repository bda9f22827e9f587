"""Make damaged objects anew, and only those: from an unharmed twin, from the remote, else by their
stage.

A bad object is moved aside before anything else is tried, under every name it has: DVC would take
it as whole, its run cache would bring it back, and a hard link in build/ is the same bytes."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from safelm.builder.digest import md5_and_sha256
from safelm.builder.locks import all_stages_locked
from safelm.builder.manifest import ManifestEntry
from safelm.builder.paths import scratch
from safelm.builder.store import Store
from safelm.maintenance.quarantine import quarantine
from safelm.maintenance.verify.check import Fault, Finding, Need, Report
from safelm.maintenance.verify.lock_file import (
    DIR,
    DamagedLockFile,
    Stage,
    folders,
    listing,
    read_listing,
    read_lock,
)

DVC = [sys.executable, "-m", "dvc"]

Say = Callable[[str], None]


class RepairError(RuntimeError):
    """What was damaged could not be made again; the message holds the end of what DVC said."""


def declared() -> set[str]:
    """The stages of dvc.yaml, as DVC names them: dvc.lock also remembers rows that params.yaml has
    no more.
    """
    return set(run_dvc("stage", "list", "--all", "--name-only").split())


def repair(report: Report, check: Callable[[], Report], store: Store, say: Say) -> Report:
    """Repair until a check finds nothing, or nothing else than the check before; the last check's
    report.
    """
    before, last = _digests(), None
    while (
        bad := [one for one in report.findings if one.fault != Fault.UNVERIFIABLE]
    ) and bad != last:
        last = bad
        _once(bad, report, store, say)
        report = check()  # a damaged listing hides the damage behind it, so this may find more
    for name, md5 in _digests().items():
        if before.get(name) != md5:
            say(
                f"{name}: was made again, and is not what it was: its code, params or inputs have changed since"
            )
    return report


def _once(bad: list[Finding], report: Report, store: Store, say: Say) -> None:
    stages = read_lock()
    objects = {finding.md5 for finding in bad if finding.md5}
    places = [need for need in report.needs if need.md5 in objects]
    with all_stages_locked("is repairing files"):
        links = {need.name for need in places if _same(need.name, store.object(need.md5))}
        for path in sorted(
            {finding.path for finding in bad if os.path.lexists(finding.path)} | links
        ):
            say(f"moved {path} to {quarantine(path)}")
        forget(objects | _hidden(report.checked, store, say), store)
        missing = {md5 for md5 in objects if not _twin(md5, places, stages, store, say)}
    if missing and run_dvc("remote", "list").strip():
        missing = _fetch(bad, missing, store, say)
    lost = {finding.stage for finding in bad if finding.md5 in missing}
    touched = {finding.stage for finding in bad} | {need.stage for need in places}
    whole: list[str] = []
    for stage in stages:  # makers before readers, as read_lock gives them
        if stage in lost:
            _checkout(whole, say)
            say(f"making {stage} again: only its damaged shards are made, the others are taken")
            run_dvc("repro", "--single-item", "--force", stage)  # not from the run cache
        elif stage in touched:
            whole.append(stage)
    _checkout(whole, say)


def _checkout(stages: list[str], say: Say) -> None:
    if stages:
        run_dvc("checkout", "--quiet", "--force", *stages)
        say(f"checked out {', '.join(stages)}")
    stages.clear()


def _hidden(checked: set[str], store: Store, say: Say) -> set[str]:
    """Move aside the damaged objects that only the index knows: a stage that is made again would
    take them by key.

    Behind a damaged listing there are such; and DVC would give their bytes a digest of their own.
    """
    hidden = {md5 for _, files in _records(store) for md5 in files} - checked
    damaged = {
        md5
        for md5 in hidden
        if store.object(md5).exists() and not _is_whole(store.object(md5), md5)
    }
    for md5 in sorted(damaged):
        say(f"moved {store.object(md5)} to {quarantine(store.object(md5))}")
    return damaged


def _same(path: Path, other: Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def forget(objects: set[str], store: Store) -> None:
    """Drop the records that speak of some objects; they are read back from manifests when the
    objects are whole.
    """
    for path, files in _records(store):
        if objects.intersection(files):
            quarantine(path)


def _records(store: Store) -> Iterator[tuple[Path, list[str]]]:
    """Every record that can be read, with the objects it speaks of; a torn one is none."""
    for path in sorted(store.scratch.glob("index/??/*.json")):
        with suppress(OSError, ValueError, KeyError, TypeError):
            yield (
                path,
                [file.md5 for file in ManifestEntry.load(json.loads(path.read_bytes())).files],
            )


def _twin(
    md5: str, places: Sequence[Need], stages: dict[str, Stage], store: Store, say: Say
) -> bool:
    """Put an object back from its file in build/ where that is another inode and whole; a folder's
    from its files.
    """
    target = store.object(md5)
    target.parent.mkdir(parents=True, exist_ok=True)
    part = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    if md5.endswith(DIR):
        place = next((out.path for _, out, digest in folders(stages) if digest == md5), None)
        if place is None:
            return False
        files = {
            path.relative_to(place).as_posix(): path for path in place.rglob("*") if path.is_file()
        }
        data = listing({name: md5_and_sha256(path)[0] for name, path in files.items()})
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != md5.removesuffix(DIR):
            return False
        part.write_bytes(data)
    else:
        for twin in (need.name for need in places if need.md5 == md5):
            if twin.is_file() and md5_and_sha256(twin)[0] == md5:
                shutil.copyfile(twin, part)
                break
        else:
            return False
    part.chmod(0o444)
    os.replace(part, target)
    say(f"restored {target} from build/")
    return True


def _fetch(bad: Iterable[Finding], missing: set[str], store: Store, say: Say) -> set[str]:
    """Ask the remote for what is missing and distrust what comes: the objects that are missing
    still.
    """
    stages = {finding.stage for finding in bad if finding.md5 in missing}
    subprocess.run(
        [*DVC, "fetch", "--quiet", *sorted(stages)], capture_output=True, env=_environment()
    )
    left = set()
    for md5 in missing:
        path = store.object(md5)
        if _is_whole(path, md5):
            say(f"fetched {path}")
            continue
        if path.exists():
            say(f"the remote's {md5} is damaged too: moved to {quarantine(path)}")
        left.add(md5)
    return left


def _is_whole(path: Path, md5: str) -> bool:
    try:
        if md5.endswith(DIR):
            read_listing(path.read_bytes())
        return md5_and_sha256(path)[0] == md5.removesuffix(DIR)
    except (OSError, DamagedLockFile):
        return False


def _digests() -> dict[str, str | None]:
    return {str(out.path): out.md5 for stage in read_lock().values() for out in stage.outs}


def run_dvc(*arguments: str) -> str:
    """Run DVC; what it printed. Raises RepairError with the end of what it said when it fails."""
    done = subprocess.run([*DVC, *arguments], capture_output=True, text=True, env=_environment())
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-12:])
        raise RepairError(
            f"dvc {' '.join(arguments)} failed (exit code {done.returncode}):\n{said}"
        )
    return done.stdout


def _environment() -> dict[str, str]:
    """This environment, in which `python` is the Python that runs now: stages are started by that
    name.
    """
    return {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
    }


def save_log(report: Report) -> Path:
    """Every finding, one a line; where."""
    path = scratch("logs", "verify.log")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{finding}\n" for finding in report.findings), encoding="utf-8")
    return path
