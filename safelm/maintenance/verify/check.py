"""Hash the objects that the build needs and the files in build/, and report every difference."""

import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from safelm.builder.files import is_digest
from safelm.builder.manifest import File
from safelm.builder.provenance import DIR, made_manifests
from safelm.builder.store import Store
from safelm.maintenance.verify.hashes import Hashes, Progress, Stamps, no_progress
from safelm.maintenance.verify.lock_file import Stages, folders
from safelm.maintenance.verify.manifests import QUARANTINE, folder_needs
from safelm.maintenance.verify.report import (
    Fault,
    Finding,
    Need,
    Problem,
    Report,
    digest_problem,
    read_problem,
)

EARLIER = "(earlier build)"


def check(
    stages: Stages,
    store: Store,
    *,
    build: bool = True,
    stamps: Stamps | None = None,
    progress: Progress = no_progress,
) -> Report:
    """Verify the outputs of some stages of dvc.lock, and the intermediates that they were made of.

    Args:
        build: also compare the files in build/ with their objects.
        stamps: digests of an earlier check; a file with the same (mtime, inode, size) is not
            hashed again.
        progress: called with (bytes hashed, bytes in all).
    """
    began = time.monotonic()
    report = Report(stages=len(stages))
    needs = report.needs = list(_needs(stages, store, report.findings))
    needs += _intermediate_needs({need.md5 for need in needs}, store)
    paths = {store.object(need.md5) for need in needs}
    if build:
        paths.update(need.name for need in needs)
    hashes = Hashes(paths, stamps or Stamps())
    hashes.run(progress)
    for need in _one_per_object(needs):
        report.findings += _check_object(need, store.object(need.md5), hashes)
    if build:
        report.findings += _check_build(stages, needs, store, hashes)
    report.checked = {need.md5 for need in needs}
    report.checked.update(md5 for _, _, md5 in folders(stages))
    objects = [path for path in map(store.object, report.checked) if path.is_file()]
    report.bytes = sum(path.stat().st_size for path in objects)
    report.objects = len(report.checked)
    report.hashed = hashes.done
    report.seconds = time.monotonic() - began
    return report


def _needs(stages: Stages, store: Store, findings: list[Finding]) -> Iterator[Need]:
    for stage in stages.values():
        for out in stage.outs:
            if out.md5 is None:
                findings.append(
                    Finding(
                        Fault.UNVERIFIABLE,
                        stage.name,
                        out.path,
                        out.path,
                        "dvc.lock has no md5 of it",
                    )
                )
            elif out.md5.endswith(DIR):
                yield from folder_needs(stage.name, out, store, findings)
            else:
                yield Need(stage.name, out.path, out.md5)


def _intermediate_needs(known: set[str], store: Store) -> Iterator[Need]:
    """Yield the objects that stages of this workspace were made of and that are in no output.

    One that is missing was collected as garbage, and is made again when its stage is.
    """
    for manifest in made_manifests():
        for _, file in manifest.files():
            path = store.object(file.md5)
            if file.md5 not in known and path.exists():
                known.add(file.md5)
                yield Need(manifest.stage, path, file.md5, file)


def _one_per_object(needs: Iterable[Need]) -> Iterable[Need]:
    """Choose one need for each object, one with an entry in a manifest if there is any.

    Several stages may have an object: `mix` holds files of `tokenize`.
    """
    chosen: dict[str, Need] = {}
    for need in needs:
        if need.md5 not in chosen or (need.file and not chosen[need.md5].file):
            chosen[need.md5] = need
    return chosen.values()


def _check_object(need: Need, path: Path, hashes: Hashes) -> Iterator[Finding]:
    problem = _md5_problem(path, need.md5, hashes) or _manifest_problem(need.file, path, hashes)
    if problem:
        yield Finding(problem.fault, need.stage, need.name, path, problem.what, need.md5)


def _md5_problem(path: Path, md5: str, hashes: Hashes) -> Problem | None:
    digests = hashes.digests[path]
    if isinstance(digests, OSError):
        return read_problem(digests)
    if digests[0] != md5:
        return digest_problem("md5", md5, digests[0], hashes.sizes[path])
    return None


def _manifest_problem(file: File | None, path: Path, hashes: Hashes) -> Problem | None:
    digests = hashes.digests[path]
    if file is None or isinstance(digests, OSError):
        return None
    sha256 = digests[1]
    size = hashes.sizes[path]
    if (sha256, size) != (file.sha256, file.bytes):
        return digest_problem("sha256", file.sha256, sha256, size)
    rows = _rows(path, file) if file.rows else 0
    if rows != file.rows:
        return Problem(Fault.CORRUPT, f"holds {rows:,} rows, its manifest says {file.rows:,}")
    return None


def _rows(path: Path, file: File) -> int:
    """Count the rows of a file; -1 where it cannot be read as a table."""
    try:
        if file.is_table:
            return pq.read_metadata(path).num_rows
        if file.suffix.endswith(QUARANTINE):
            return path.read_bytes().count(b"\n")
    except pa.ArrowException:
        return -1
    return file.rows


def _check_build(
    stages: Stages, needs: list[Need], store: Store, hashes: Hashes
) -> Iterator[Finding]:
    """Compare build/ with dvc.lock: damaged files, missing ones, and those of no stage."""
    absent = set[Path]()
    for stage in stages.values():
        for path in (out.path for out in stage.outs if not out.path.exists()):
            absent.add(path)
            yield Finding(
                Fault.MISSING, stage.name, path, path, "is not in build/; run `dvc checkout`"
            )
    for need in needs:
        is_reported = bool(absent & {need.name, *need.name.parents})
        problem = _build_problem(need, store, hashes)
        if problem and not is_reported:
            yield Finding(problem.fault, need.stage, need.name, need.name, problem.what)
    yield from _unknown_files(stages, {need.name for need in needs})


def _build_problem(need: Need, store: Store, hashes: Hashes) -> Problem | None:
    digests = hashes.digests[need.name]
    if hashes.digests[store.object(need.md5)] is digests:
        return None  # a hard link to its object, and reported with it
    return _md5_problem(need.name, need.md5, hashes)


def _unknown_files(stages: Stages, known: set[Path]) -> Iterator[Finding]:
    """Yield the files of outputs that no listing names.

    An output of which no file is known has a damaged listing, which is reported already.
    """
    listed = set[Path]()
    for name in known:
        listed.update((name, *name.parents))
    for stage in stages.values():
        for path in (out.path for out in stage.outs if out.path in listed):
            for name in sorted(path.rglob("*")):
                if name not in known and not name.is_dir():
                    yield Finding(Fault.CORRUPT, stage.name, name, name, "is no file of this stage")


def check_rest(report: Report, store: Store, progress: Progress = no_progress) -> None:
    """Verify the other objects of the cache too, and add to the report.

    Earlier builds made them, and DVC's run cache may bring them back.
    """
    began = time.monotonic()
    rest: dict[Path, str] = {}
    for path in store.cache.glob("[0-9a-f][0-9a-f]/*"):
        md5 = path.parent.name + path.name
        if is_digest(md5.removesuffix(DIR)) and md5 not in report.checked:
            rest[path] = md5
    hashes = Hashes(set(rest), Stamps())
    hashes.run(progress)
    for path, md5 in sorted(rest.items()):
        if problem := _md5_problem(path, md5.removesuffix(DIR), hashes):
            finding = Finding(problem.fault, EARLIER, path, path, problem.what, md5)
            report.findings.append(finding)
    report.checked.update(rest.values())
    report.objects += len(rest)
    report.bytes += hashes.done
    report.seconds += time.monotonic() - began
