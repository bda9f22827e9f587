"""Objects that were fetched: hashed once, before a build uses the first of them."""

from contextlib import suppress

from safelm.builder.digest import MANIFEST
from safelm.builder.manifest import DamagedShard, Manifest, ManifestEntry
from safelm.builder.store import Stamp, Store, project_store
from safelm.maintenance.doctor.diagnosis import Diagnoses, Diagnosis
from safelm.maintenance.dvc import DvcError, declared_stages
from safelm.maintenance.verify.check import check
from safelm.maintenance.verify.hashes import Stamps, progress_bar
from safelm.maintenance.verify.lock_file import DamagedLockFile, Stages, read_lock
from safelm.maintenance.verify.report import Fault, Finding, Report


def objects() -> Diagnoses:
    """Check the objects that were fetched, or changed, since the last build."""
    try:
        stages = read_lock()
    except (OSError, DamagedLockFile):
        return  # reported by another check
    for finding in damaged_objects(stages):
        yield Diagnosis(
            finding.path,
            f"{finding.name} of the stage {finding.stage} {finding.what}",
            "`make verify REPAIR=1` quarantines it and fetches or makes only that again",
        )


def damaged_objects(stages: Stages) -> list[Finding]:
    """Find objects that stages of dvc.lock name and that hold other bytes.

    An object is not hashed again if the index has its stamp. What is whole is added to the index.
    """
    store = project_store()
    stamps = Stamps.of_index(store)
    known = set(stamps.known)
    with progress_bar("check what was fetched") as progress:
        report = check(stages, store, build=False, stamps=stamps, progress=progress)
    if any(need.file and str(store.object(need.md5)) not in known for need in report.needs):
        _add_to_index(report, store, stamps)
    damaged = [finding for finding in report.findings if finding.fault is Fault.CORRUPT]
    if damaged:
        # dvc.lock also remembers rows that left params.yaml. To ask DVC takes a second.
        with suppress(DvcError):
            declared = declared_stages()
            return [finding for finding in damaged if finding.stage in declared]
    return damaged


def _add_to_index(report: Report, store: Store, stamps: Stamps) -> None:
    for need in report.needs:
        if need.name.name == MANIFEST and stamps.is_whole(store.object(need.md5), need.md5):
            for entry in _entries(store, need.md5):
                _add_entry(entry, store, stamps)


def _entries(store: Store, md5: str) -> list[ManifestEntry]:
    try:
        return list(Manifest.parse(store.object(md5).read_bytes()).entries())
    except (ValueError, KeyError, TypeError, AttributeError, DamagedShard):
        return []  # reported as unverifiable by `verify`


def _add_entry(entry: ManifestEntry, store: Store, stamps: Stamps) -> None:
    own: dict[str, Stamp] = {}
    for file in entry.files:
        path = store.object(file.md5)
        if not stamps.is_whole(path, file.md5):
            return
        # The stamp that the file had when it was hashed just now.
        own[file.md5], _ = stamps.known[str(path)]
    store.write_entry(entry, own)
