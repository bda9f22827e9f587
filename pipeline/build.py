"""The command `safelm build`: check the project, then build what is out of date."""

import re
import shutil
import time
from collections import defaultdict
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from pipeline.dependencies import DVC_YAML, update_dependencies
from safelm.builder import scheduler
from safelm.builder.dvc_locks import LOCK, remove_ended, try_lock
from safelm.builder.environment import environment_number
from safelm.builder.files import nearest_folder, write_synced
from safelm.builder.locks import StageError, locked
from safelm.builder.manifest import DamagedShard
from safelm.builder.paths import build, cache
from safelm.builder.provenance import DIR, LOCK_FILE, locked_object
from safelm.builder.status import Outdated, outdated
from safelm.builder.store import project_store
from safelm.builder.workspaces import take_reserve
from safelm.maintenance.verify.lock_file import DamagedLockFile, read_listing
from specs.params import PARAMS
from specs.validation import problems

# Both in dvc.lock.
STAGE_BEGINS = re.compile(r"^(?=  [^ ])", re.MULTILINE)
MD5_AND_SIZE = re.compile(r"(?<=md5: )([0-9a-f]{32}(?:\.dir)?)(\n +size: )(\d+)")


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
    normalize_lock_file()
    if not needs:
        return f"everything is up to date\nthe report: {build('report', 'index.html')}"
    seconds = time.monotonic() - began
    return f"built in {seconds:.0f} s\nthe report: {build('report', 'index.html')}"


def normalize_lock_file() -> None:
    """Sort the stages of dvc.lock, and give one digest one size.

    DVC appends a stage when it is first built, and takes a folder's digest from its database but
    its size from the files as they are, damaged or not. So the bytes of dvc.lock would depend on
    kills, on edits taken back, on the number of lanes, and on damage that is repaired.
    """
    with try_lock(LOCK) as is_held:
        if not (is_held and LOCK_FILE.is_file()):
            return  # DVC writes to it now, so the next build does this
        text = LOCK_FILE.read_text(encoding="utf-8")
        head, *stages = STAGE_BEGINS.split(text)
        normal = _with_true_sizes(head + "".join(sorted(stages)))
        if normal != text:
            write_synced(LOCK_FILE, normal.encode())


def _with_true_sizes(text: str) -> str:
    sizes = defaultdict[str, set[str]](set)
    for md5, _, size in MD5_AND_SIZE.findall(text):
        sizes[md5].add(size)
    true = {}
    for md5 in (md5 for md5, found in sizes.items() if len(found) > 1):
        # What is not in the cache whole, `verify` reports.
        with suppress(OSError, DamagedShard, DamagedLockFile):
            true[md5] = str(_size(md5))
    return MD5_AND_SIZE.sub(lambda entry: entry[1] + entry[2] + true.get(entry[1], entry[3]), text)


def _size(md5: str) -> int:
    """Add up the bytes of an object's files, or take those of the one that it is."""
    files = read_listing(locked_object(md5)).values() if md5.endswith(DIR) else [md5]
    return sum(project_store().object(file).stat().st_size for file in files)


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
