"""The command `safelm pull`: fetch what dvc.lock names, and use only what has its digest.

A bare `dvc pull` follows the names in a listing before anything is hashed: who can write to the
remote could have it write files outside of the project. Here listings are checked first.
"""

from collections.abc import Mapping

from safelm.builder.digest import bytes_md5
from safelm.builder.locks import project_locked
from safelm.builder.provenance import DIR
from safelm.builder.store import project_store
from safelm.maintenance.dvc import DvcError, declared_stages, run_dvc, try_dvc
from safelm.maintenance.quarantine import quarantine
from safelm.maintenance.verify.fetched import damaged_objects
from safelm.maintenance.verify.lock_file import (
    DamagedLockFile,
    Stage,
    folders,
    read_listing,
    read_lock,
)
from safelm.maintenance.verify.report import Finding


def pull() -> list[str]:
    """Fetch the build that dvc.lock names and put what is whole into build/.

    What is damaged is quarantined, and left to the next build.

    Returns:
        A line for each stage that was refused.

    Raises:
        DamagedLockFile: dvc.lock cannot be read.
        DvcError: there is no remote, or DVC failed.
    """
    if not run_dvc("remote", "list").strip():
        raise DvcError("there is no remote to pull from; `dvc remote add --default NAME URL`")
    declared = declared_stages()
    stages = {name: stage for name, stage in read_lock().items() if name in declared}
    with project_locked("is pulling"):
        problems = _fetch_listings(stages)
        if fetched := sorted(stages.keys() - problems.keys()):
            # It fails if an object is missing, which the check below names.
            try_dvc("fetch", "--quiet", *fetched)
        problems |= _quarantine_damaged({name: stages[name] for name in fetched})
        whole = [name for name in fetched if name not in problems]
        if whole:
            run_dvc("checkout", "--quiet", "--force", "--allow-missing", *whole)
    return [f"{stage}: {what}; `make repro` makes it here" for stage, what in problems.items()]


def _fetch_listings(stages: Mapping[str, Stage]) -> dict[str, str]:
    """Fetch the listings that are not in the cache; return what is wrong with some, by stage."""
    # Here, because it takes a third of a second to import.
    from dvc.repo import Repo

    store = project_store()
    problems = {}
    with Repo() as repo:
        remote = repo.cloud.get_remote_odb(command="pull")
        for stage, out, md5 in folders(dict(stages)):
            path = store.object(md5)
            if path.exists() and not _problem(path.read_bytes(), md5):
                continue
            try:
                with remote.fs.open(remote.oid_to_path(md5), "rb") as file:
                    data = file.read()
            except FileNotFoundError:
                problems[stage.name] = f"the remote lacks the listing of {out.path} ({md5})"
                continue
            if problem := _problem(data, md5):
                problems[stage.name] = f"the remote's listing of {out.path} ({md5}) {problem}"
                continue
            store.write_object(md5, data)
    return problems


def _problem(data: bytes, md5: str) -> str:
    """Say what is wrong with a listing; "" if it is whole and all its names stay inside."""
    got = bytes_md5(data)
    if got != md5.removesuffix(DIR):
        return f"has the md5 {got}"
    try:
        read_listing(data)
    except DamagedLockFile as error:
        return str(error)
    return ""


def _quarantine_damaged(stages: Mapping[str, Stage]) -> dict[str, str]:
    """Quarantine fetched objects that hold other bytes; return a line for each stage with one."""
    problems = {}
    store = project_store()
    damaged = {finding.md5: finding for finding in damaged_objects(dict(stages))}
    for finding in damaged.values():
        problems[finding.stage] = _line(finding)
        if finding.path.exists():
            quarantine(finding.path)
    for stage, _, md5 in folders(dict(stages)):
        # Several stages may have an object; it was found for one of them.
        for object in read_listing(store.object(md5).read_bytes()).values():
            if object in damaged:
                problems[stage.name] = _line(damaged[object])
    return problems


def _line(finding: Finding) -> str:
    what = f"{finding.name} ({finding.md5}) {finding.what}"
    return f"the remote's {what}; moved to .safelm/quarantine"
