"""The command `safelm build`: check the project, then build what is out of date."""

import re
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

from pipeline.dependencies import DVC_YAML, update_dependencies
from safelm.builder import scheduler
from safelm.builder.dvc_locks import LOCK, remove_ended, try_lock
from safelm.builder.environment import environment_number
from safelm.builder.files import nearest_folder, write_synced
from safelm.builder.locks import StageError, locked
from safelm.builder.paths import build, cache
from safelm.builder.provenance import LOCK_FILE
from safelm.builder.status import Outdated, outdated
from safelm.builder.workspaces import take_reserve
from specs.params import PARAMS
from specs.validation import problems

STAGE_BEGINS = re.compile(r"^(?=  [^ ])", re.MULTILINE)  # in dvc.lock


class ProjectError(RuntimeError):
    """This folder cannot be built; the message says why and what to do."""


def require_project() -> None:
    """Raise ProjectError where the current folder is not that of a project."""
    here = Path.cwd()
    for name in (DVC_YAML, PARAMS, Path(".dvc")):
        if not name.exists():
            raise ProjectError(
                f"{here}: has no {name}; change to the folder of the project, such as your clone"
            )


def _require_git() -> None:
    here = Path.cwd()
    is_tracked = any((folder / ".git").exists() for folder in (here, *here.parents))
    if not is_tracked and "no_scm" not in Path(".dvc/config").read_text(encoding="utf-8"):
        raise ProjectError(
            f"{here}: has no .git, as in a ZIP download, and DVC needs it; clone the project, "
            "or run `git init`"
        )


def build_project(jobs: int) -> str:
    """Build everything that is out of date, and return a sentence about it.

    DVC is asked once what is out of date; stages beside that are not looked at again. `dvc repro`
    builds the same, bit for bit, one stage after another. A second build waits for the first.

    Args:
        jobs: lanes in which stages are built side by side.

    Raises:
        ProjectError: the folder, params.yaml or DVC's own state stop the build.
        BuildError: a stage failed.
    """
    # The checks import what reads DVC's files, which commands beside this one do not need.
    from safelm.maintenance.doctor.surroundings import readable

    require_project()
    # The settings of DVC say where the cache is, and so its lock.
    _refuse(list(readable()))
    with locked("build", wait=True):
        _mend()
        _require_git()
        return _build(jobs)


def _mend() -> None:
    """Mend what a crash left in DVC's files, or refuse to build.

    Another build writes these files again and again, so this is for the one that holds the lock.
    """
    from safelm.maintenance.doctor.examine import check_before_build
    from safelm.maintenance.doctor.lock_copy import keep_lock_file, restore_lock_file

    for what in remove_ended():
        print(f"DVC's lock: {what}; removed", flush=True)
    if restored := restore_lock_file():
        print(restored, flush=True)
    _refuse(check_before_build() or problems())
    keep_lock_file()
    take_reserve()


def _refuse(found: Sequence[object]) -> None:
    if found:
        raise ProjectError("\n".join(map(str, found)))


def _build(jobs: int) -> str:
    from safelm.maintenance.doctor.lock_copy import keep_lock_file

    began = time.monotonic()
    for stage in update_dependencies(with_code=False):
        print(f"dvc.yaml: {stage} reads other rows now", flush=True)
    needs, expected = _outdated()
    _require_space(len(needs), expected)
    scheduler.build(needs, jobs, keep_lock_file)
    sort_stages()
    if not needs:
        return f"everything is up to date\nthe report: {build('report', 'index.html')}"
    seconds = time.monotonic() - began
    return f"built in {seconds:.0f} s\nthe report: {build('report', 'index.html')}"


def sort_stages() -> None:
    """Sort the stages of dvc.lock, where DVC appends each when it is first built.

    Otherwise its bytes would depend on kills, on edits taken back and on the number of lanes.
    """
    with try_lock(LOCK) as is_held:
        if not (is_held and LOCK_FILE.is_file()):
            return  # DVC writes to it now, so the next build sorts it
        text = LOCK_FILE.read_text(encoding="utf-8")
        head, *stages = STAGE_BEGINS.split(text)
        ordered = head + "".join(sorted(stages))
        if ordered != text:
            write_synced(LOCK_FILE, ordered.encode())


def _require_space(stages: int, expected: int) -> None:
    """Refuse a build that would fill the disk: it would fail late, and so would others."""
    folder = nearest_folder(cache())
    free = shutil.disk_usage(folder).free
    declared = environment_number("SAFELM_FREE_GB")
    needed = declared * 10**9 if declared else expected
    if free < needed:
        source = "SAFELM_FREE_GB" if declared else f"the last build of {stages} stages, or inputs"
        raise ProjectError(
            f"{folder}: {free / 1e9:,.1f} GB are free, and {needed / 1e9:,.1f} GB may be needed "
            f"({source}); make room (`make gc`), or set SAFELM_FREE_GB to what is enough"
        )


def _outdated() -> Outdated:
    from safelm.maintenance.doctor.dvc import dvc_responds

    try:
        return outdated()
    # DVC's own errors, or SQLite's of its databases: the doctor knows their remedies.
    except Exception as error:
        text = "\n".join(map(str, dvc_responds())) or f"DVC: {error}"
        raise StageError(text) from error
