"""Repair of damaged objects, and of no others: from an intact copy, the remote, or their stage.

A bad object is first moved to the quarantine, under every name it has. DVC would take it as whole,
its run cache would bring it back, and a hard link in build/ has the same bytes.
"""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from safelm.builder.digest import bytes_md5, md5_and_sha256
from safelm.builder.files import make_parent
from safelm.builder.locks import all_stages_locked
from safelm.builder.provenance import DIR
from safelm.builder.store import READ_ONLY, Store
from safelm.maintenance.dvc import run_dvc, try_dvc
from safelm.maintenance.quarantine import quarantine
from safelm.maintenance.verify.lock_file import (
    DamagedLockFile,
    Stage,
    folders,
    read_listing,
    read_lock,
    write_listing,
)
from safelm.maintenance.verify.report import Fault, Finding, Need, Report

Say = Callable[[str], None]


def repair(report: Report, check: Callable[[], Report], store: Store, say: Say) -> Report:
    """Repair until a check finds nothing, or the same as the check before; return its report.

    Raises:
        DvcError: a stage could not be made again.
        LockedError: a build runs.
    """
    before = read_lock()
    last = None
    while (bad := _repairable(report)) and bad != last:
        last = bad
        Repair(bad, report, store, say).run()
        report = check()  # a damaged listing hides the damage behind it, so this may find more
    for name, stage in read_lock().items():
        if name in before and before[name].outs != stage.outs:
            say(f"{name}: was made again and differs: {cause_of_difference(before[name], stage)}")
    return report


def cause_of_difference(before: Stage, after: Stage) -> str:
    """Name what a stage read that is another than when it was built before."""
    changed = [name for name, md5 in after.read.items() if before.read.get(name) != md5]
    if changed:
        return f"{', '.join(changed)} changed since it was built"
    return "it does not give the same bytes twice, or another library is installed than before"


def _repairable(report: Report) -> list[Finding]:
    return [finding for finding in report.findings if finding.fault != Fault.UNVERIFIABLE]


class Repair:
    """One round of repair, for the findings of one check."""

    def __init__(self, bad: list[Finding], report: Report, store: Store, say: Say) -> None:
        self.bad = bad
        self.store = store
        self.say = say
        self.stages = read_lock()
        self.checked = report.checked
        self.objects = {finding.md5 for finding in bad if finding.md5}
        self.needs = [need for need in report.needs if need.md5 in self.objects]

    def run(self) -> None:
        """Quarantine what is damaged, then restore, fetch or make it again."""
        with all_stages_locked("is repairing files", wait=True):
            self._quarantine_bad()
            remove_entries(self.objects | self._quarantine_unlisted(), self.store)
            missing = {md5 for md5 in self.objects if not self._restore(md5)}
        # Outside of the locks, because DVC's commands below build stages.
        if missing and run_dvc("remote", "list").strip():
            missing = self._fetch(missing)
        lost = {finding.stage for finding in self.bad if finding.md5 in missing}
        self._make(lost)

    def _quarantine_bad(self) -> None:
        links = [need.name for need in self.needs if self._is_link(need)]
        damaged = [finding.path for finding in self.bad if os.path.lexists(finding.path)]
        for path in sorted({*damaged, *links}):
            self.say(f"moved {path} to {quarantine(path)}")

    def _is_link(self, need: Need) -> bool:
        with suppress(OSError):
            return need.name.samefile(self.store.object(need.md5))
        return False

    def _quarantine_unlisted(self) -> set[str]:
        """Quarantine the damaged objects that only the index names; return their digests.

        There are some behind a damaged listing. A stage that is made again would take them by key,
        and DVC would give their bytes a digest of their own.
        """
        indexed = set[str]()
        for _, entry, _ in self.store.entries():
            indexed.update(file.md5 for file in entry.files)
        damaged = set[str]()
        for md5 in sorted(indexed - self.checked):
            path = self.store.object(md5)
            if path.exists() and not _is_whole(path, md5):
                self.say(f"moved {path} to {quarantine(path)}")
                damaged.add(md5)
        return damaged

    def _restore(self, md5: str) -> bool:
        """Put an object back from build/, where its file is another inode and whole.

        The listing of a folder is written anew from the folder's files.
        """
        target = self.store.object(md5)
        make_parent(target)
        # A leading dot, so that a crash leaves what the doctor takes for half-written.
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        if md5.endswith(DIR):
            is_restored = self._write_listing(md5, temporary)
        else:
            is_restored = self._copy_twin(md5, temporary)
        if is_restored:
            temporary.chmod(READ_ONLY)
            os.replace(temporary, target)
            self.say(f"restored {target} from build/")
        return is_restored

    def _write_listing(self, md5: str, path: Path) -> bool:
        outs = [out for _, out, digest in folders(self.stages) if digest == md5]
        if not outs:
            return False
        root = outs[0].path
        digests = {}
        for file in root.rglob("*"):
            if file.is_file():
                digests[file.relative_to(root).as_posix()] = md5_and_sha256(file)[0]
        data = write_listing(digests)
        if bytes_md5(data) != md5.removesuffix(DIR):
            return False
        path.write_bytes(data)
        return True

    def _copy_twin(self, md5: str, path: Path) -> bool:
        for need in self.needs:
            if need.md5 == md5 and need.name.is_file() and md5_and_sha256(need.name)[0] == md5:
                shutil.copyfile(need.name, path)
                return True
        return False

    def _fetch(self, missing: set[str]) -> set[str]:
        """Fetch objects from the remote and check them; return those that are still missing."""
        stages = {finding.stage for finding in self.bad if finding.md5 in missing}
        # An intermediate is in no remote: its stage makes it again when it needs it.
        if wanted := sorted(stages & self.stages.keys()):
            try_dvc("fetch", "--quiet", *wanted)
        left = set()
        for md5 in missing:
            path = self.store.object(md5)
            if _is_whole(path, md5):
                self.say(f"fetched {path}")
                continue
            if path.exists():
                self.say(f"the remote's {md5} is damaged too: moved to {quarantine(path)}")
            left.add(md5)
        return left

    def _make(self, lost: set[str]) -> None:
        """Make the stages again whose objects are lost, and check out the others concerned."""
        concerned = {finding.stage for finding in self.bad}
        concerned.update(need.stage for need in self.needs)
        whole: list[str] = []
        for stage in self.stages:  # each after those whose outputs it reads
            if stage in lost:
                self._check_out(whole)
                self.say(f"making {stage} again: only its damaged shards are made")
                # Forced, for the run cache would bring the damage back.
                run_dvc("repro", "--single-item", "--force", stage)
            elif stage in concerned:
                whole.append(stage)
        self._check_out(whole)

    def _check_out(self, stages: list[str]) -> None:
        if stages:
            run_dvc("checkout", "--quiet", "--force", *stages)
            self.say(f"checked out {', '.join(stages)}")
        stages.clear()


def remove_entries(objects: set[str], store: Store) -> None:
    """Quarantine the index entries of some objects; manifests bring them back when whole."""
    for path, entry, _ in store.entries():
        if objects.intersection(file.md5 for file in entry.files):
            quarantine(path)


def _is_whole(path: Path, md5: str) -> bool:
    try:
        if md5.endswith(DIR):
            read_listing(path.read_bytes())
        return md5_and_sha256(path)[0] == md5.removesuffix(DIR)
    except (OSError, DamagedLockFile):
        return False
