"""Hash what the build needs, objects and files in build/ alike, and say what is not what it was.

The exit codes are those of `nix store verify`, as bits: 1 something is corrupt, 2 something is
missing, 4 something cannot be verified."""

import hashlib
import json
import os
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from enum import IntFlag
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from safelm.builder.digest import MANIFEST, md5_and_sha256
from safelm.builder.environment import workers
from safelm.builder.files import is_digest
from safelm.builder.manifest import DamagedShard, File, Ledger, LedgerError, Manifest
from safelm.builder.store import Store
from safelm.maintenance.verify.lock_file import (
    DIR,
    DamagedLockFile,
    Out,
    Stage,
    folders,
    read_listing,
)
from safelm.maintenance.verify.stamps import Stamps


class Fault(IntFlag):
    """What is wrong with a file; together, the exit code."""

    CORRUPT = 1
    MISSING = 2
    UNVERIFIABLE = 4


@dataclass(frozen=True)
class Finding:
    """One file at fault. `name` is its place in build/, `path` the file itself, `md5` its digest if
    it is an object.
    """

    fault: Fault
    stage: str
    name: Path
    path: Path
    what: str
    md5: str | None = None

    def __str__(self) -> str:
        named = "" if self.path == self.name else f"{self.path}: "
        return (
            f"{str(self.fault.name).lower():<12} {self.stage:<18} {self.name}: {named}{self.what}"
        )


@dataclass(frozen=True)
class Need:
    """A file that the build needs: its place in build/, its object, and what a manifest says of it."""

    stage: str
    name: Path
    md5: str
    file: File | None = None


@dataclass
class Report:
    """What was looked at, and what was found."""

    findings: list[Finding] = field(default_factory=list)
    needs: list[Need] = field(default_factory=list)
    checked: set[str] = field(default_factory=set)
    stages: int = 0
    objects: int = 0
    bytes: int = 0
    hashed: int = 0
    seconds: float = 0.0

    @property
    def code(self) -> int:
        """The exit code."""
        code = 0
        for finding in self.findings:
            code |= finding.fault
        return code

    def summary(self) -> str:
        """`1,234 objects (5.6 GB) of 23 stages verified in 3.2 s: 2 corrupt, 1 missing`."""
        counts = Counter(finding.fault for finding in self.findings)
        found = ", ".join(
            f"{counts[fault]:,} {str(fault.name).lower()}" for fault in Fault if counts[fault]
        )
        what = f"{self.objects:,} objects ({self.bytes / 1e9:,.2f} GB) of {self.stages} stages"
        return f"{what} verified in {self.seconds:.1f} s: {found or 'all whole'}"


Progress = Callable[[int, int], None]


def check(
    stages: dict[str, Stage],
    store: Store,
    *,
    build: bool = True,
    stamps: Stamps | None = None,
    progress: Progress = lambda done, total: None,
) -> Report:
    """Verify the outputs of some stages of dvc.lock.

    Args:
        build: also compare the files in build/ with their objects.
        stamps: digests from an earlier check; a file whose (mtime, inode, size) is the same is not hashed again.
        progress: called with (bytes hashed, bytes in all).
    """
    began = time.monotonic()
    report = Report(stages=len(stages))
    needs = report.needs = list(_needs(stages, store, report.findings))
    paths = {store.object(need.md5) for need in needs} | (
        {need.name for need in needs} if build else set()
    )
    hashes = Hashes(paths, stamps or Stamps())
    hashes.run(progress)
    for need in _once(needs):
        report.findings += _object(need, store.object(need.md5), hashes)
    if build:
        report.findings += _build(stages, needs, store, hashes)
    report.checked = {need.md5 for need in needs} | {md5 for _, _, md5 in folders(stages)}
    report.bytes = sum(
        path.stat().st_size for path in map(store.object, report.checked) if path.is_file()
    )
    report.objects, report.hashed = len(report.checked), hashes.done
    report.seconds = time.monotonic() - began
    return report


class Hashes:
    """md5 and sha256 of many files, by threads (hashing lets the interpreter go); two names of one
    inode count once.
    """

    def __init__(self, paths: set[Path], stamps: Stamps) -> None:
        self.stamps, self.done = stamps, 0
        self.found: dict[Path, tuple[str, str] | OSError] = {}
        self.inodes: dict[tuple[int, int], list[Path]] = {}
        self.sizes: dict[Path, int] = {}
        for path in sorted(paths):
            try:
                stat = path.stat()
                self.sizes[path] = stat.st_size
                self.inodes.setdefault((stat.st_dev, stat.st_ino), []).append(path)
            except OSError as error:
                self.found[path] = error

    def run(self, progress: Progress) -> None:
        """Hash every file."""
        todo = []
        for same in self.inodes.values():
            known = self.stamps.get(same[0])
            if known:
                self.found.update(dict.fromkeys(same, known))
            else:
                todo.append(same)
        total = sum(self.sizes[same[0]] for same in todo)
        progress(0, total)
        with ThreadPoolExecutor(workers()) as pool:
            for same, found in zip(todo, pool.map(self._hash, todo), strict=True):
                self.found.update(dict.fromkeys(same, found))
                self.done += self.sizes[same[0]]
                progress(self.done, total)

    def _hash(self, same: list[Path]) -> tuple[str, str] | OSError:
        try:
            before = same[0].stat()
            found = md5_and_sha256(same[0])
            self.stamps.put(same[0], before, found)
            return found
        except OSError as error:
            return error


def _needs(stages: dict[str, Stage], store: Store, findings: list[Finding]) -> Iterator[Need]:
    for stage in stages.values():
        for out in stage.outs:
            if out.md5 is None:
                what = "dvc.lock has no md5 of it"
                findings.append(Finding(Fault.UNVERIFIABLE, stage.name, out.path, out.path, what))
            elif out.md5.endswith(DIR):
                yield from _folder(stage.name, out, store, findings)
            else:
                yield Need(stage.name, out.path, out.md5)


def _folder(stage: str, out: Out, store: Store, findings: list[Finding]) -> Iterator[Need]:
    assert out.md5
    path = store.object(out.md5)
    try:
        data = path.read_bytes()
        got = hashlib.md5(data, usedforsecurity=False).hexdigest()
        if got != out.md5.removesuffix(DIR):
            raise DamagedLockFile(_differs("md5", out.md5, got, len(data)))
        files = read_listing(data)
    except DamagedLockFile as error:
        findings.append(Finding(Fault.CORRUPT, stage, out.path, path, str(error), out.md5))
        return
    except OSError as error:
        findings.append(Finding(_fault(error), stage, out.path, path, _reason(error), out.md5))
        return
    facts: dict[str, File] = {}
    for folder, own in _manifested(files).items():
        listed = {
            name.removeprefix(folder): md5 for name, md5 in files.items() if name.startswith(folder)
        }
        found = _facts(stage, out, folder, listed, own, store, findings)
        facts |= {folder + name: fact for name, fact in found.items()}
    for name, md5 in files.items():
        yield Need(stage, out.path / name, md5, facts.get(name))


def _manifested(files: Iterable[str]) -> dict[str, set[str]]:
    """The files of a listing by the folder, "" or one like "lexicon/", whose manifest must speak of
    them.
    """
    folders = sorted(
        (name.removesuffix(MANIFEST) for name in files if PurePosixPath(name).name == MANIFEST),
        key=len,
    )
    found: dict[str, set[str]] = {folder: set() for folder in folders}
    for name in files:
        owner = next((folder for folder in reversed(folders) if name.startswith(folder)), None)
        if owner is not None:
            found[owner].add(name.removeprefix(owner))
    return found


def _facts(
    stage: str,
    out: Out,
    folder: str,
    files: dict[str, str],
    own: set[str],
    store: Store,
    findings: list[Finding],
) -> dict[str, File]:
    """What the manifest of a folder says of its files; the manifest itself must agree with the
    listing and the law.

    It must speak of its `own` files, and may of those of folders inside that have manifests too.
    """
    path = store.object(files[MANIFEST])

    def found(fault: Fault, what: str) -> None:
        findings.append(
            Finding(fault, stage, out.path / folder / MANIFEST, path, what, files[MANIFEST])
        )

    try:
        data = path.read_bytes()
        if hashlib.md5(data, usedforsecurity=False).hexdigest() != files[MANIFEST]:
            return {}  # found again, and told, when the objects are hashed
        manifest = Manifest.parse(data)
        facts = dict(manifest.files())
        total = Ledger(**json.loads(data)["ledger"])
    except FileNotFoundError:
        return {}  # as above
    except (OSError, ValueError, KeyError, TypeError, AttributeError, DamagedShard) as error:
        found(Fault.UNVERIFIABLE, f"is not a manifest that this version reads ({_reason(error)})")
        return {}
    for what in _broken_laws(manifest, total):
        found(Fault.CORRUPT, what)
    for name in sorted((facts.keys() | own) - {MANIFEST}):
        if name not in facts or facts[name].md5 != files.get(name):
            found(Fault.CORRUPT, f"does not agree with the folder's listing on {name}")
    return facts


def _broken_laws(manifest: Manifest, total: Ledger) -> Iterator[str]:
    """Rows in = rows out + dropped + quarantined, for every shard and for the stage; a shard's own
    files hold them all.

    A file with a name of its own (held_out.parquet of a scorer) is something that was made of rows.
    """
    try:
        for name, record in manifest.tasks:
            record.ledger.check(f"shard {name}")
            own = [file for file in record.files if file.suffix.startswith((".", "-"))]
            rows = {
                suffix: sum(file.rows for file in own if file.suffix.endswith(suffix))
                for suffix in (".parquet", ".quarantine.jsonl")
            }
            tables = any(file.suffix.endswith(".parquet") for file in own)
            if tables and record.ledger.rows_in and rows[".parquet"] != record.ledger.rows_out:
                yield f"shard {name}: its files hold {rows['.parquet']:,} rows, its ledger {record.ledger.rows_out:,}"
            if rows[".quarantine.jsonl"] != sum(record.ledger.quarantined.values()):
                yield f"shard {name}: its ledger and its quarantine do not agree"
    except LedgerError as error:
        yield str(error)
    if total != manifest.ledger:
        yield f"the stage's ledger is not the sum of its shards': {total.summary()}"


def _once(needs: Sequence[Need]) -> Iterator[Need]:
    """One need for each object, the one that a manifest speaks of if there is one: `mix` holds
    files of `tokenize`.
    """
    chosen: dict[str, Need] = {}
    for need in needs:
        if need.md5 not in chosen or (need.file and not chosen[need.md5].file):
            chosen[need.md5] = need
    yield from chosen.values()


def _object(need: Need, path: Path, hashes: Hashes) -> Iterator[Finding]:
    def finding(fault: Fault, what: str) -> Finding:
        return Finding(fault, need.stage, need.name, path, what, need.md5)

    found = hashes.found[path]
    if isinstance(found, OSError):
        yield finding(_fault(found), _reason(found))
    elif found[0] != need.md5:
        yield finding(Fault.CORRUPT, _differs("md5", need.md5, found[0], hashes.sizes[path]))
    elif need.file and (found[1], hashes.sizes[path]) != (need.file.sha256, need.file.bytes):
        yield finding(
            Fault.CORRUPT, _differs("sha256", need.file.sha256, found[1], hashes.sizes[path])
        )
    elif need.file and need.file.rows and (rows := _rows(path, need.file)) != need.file.rows:
        yield finding(Fault.CORRUPT, f"holds {rows:,} rows, its manifest says {need.file.rows:,}")


def _rows(path: Path, file: File) -> int:
    try:
        if file.suffix.endswith(".parquet"):
            return pq.read_metadata(path).num_rows
        if file.suffix.endswith(".quarantine.jsonl"):
            return path.read_bytes().count(b"\n")
    except pa.ArrowException:
        return -1
    return file.rows


def _build(
    stages: dict[str, Stage], needs: Sequence[Need], store: Store, hashes: Hashes
) -> Iterator[Finding]:
    """The files in build/ against dvc.lock: damaged, missing, and those that nobody made.

    A file that is a hard link to its object was told with the object.
    """
    absent = {
        out.path: stage.name
        for stage in stages.values()
        for out in stage.outs
        if not out.path.exists()
    }
    for path, maker in absent.items():
        yield Finding(Fault.MISSING, maker, path, path, "is not in build/; run `dvc checkout`")
    for need in needs:
        found = hashes.found[need.name]
        if isinstance(found, OSError):
            if not absent.keys() & {need.name, *need.name.parents}:
                yield Finding(_fault(found), need.stage, need.name, need.name, _reason(found))
        elif found[0] != need.md5 and hashes.found[store.object(need.md5)] is not found:
            what = _differs("md5", need.md5, found[0], hashes.sizes[need.name])
            yield Finding(Fault.CORRUPT, need.stage, need.name, need.name, what)
    known = {need.name for need in needs}
    read = {folder for name in known for folder in (name, *name.parents)}
    for stage in stages.values():
        for out in stage.outs:
            for path in _files(out.path) if out.path in read else ():
                if path not in known:
                    yield Finding(Fault.CORRUPT, stage.name, path, path, "is no file of this stage")


def _files(folder: Path) -> Iterator[Path]:
    for place, _, names in os.walk(folder):
        for name in names:
            yield Path(place, name)


def _differs(kind: str, expected: str, got: str, size: int) -> str:
    return f"expected {kind} {expected[:16]}…, got {got[:16]}… ({size:,} bytes)"


def _fault(error: OSError) -> Fault:
    if isinstance(error, FileNotFoundError):
        return Fault.MISSING
    strange = isinstance(error, IsADirectoryError | NotADirectoryError)
    return Fault.CORRUPT if strange else Fault.UNVERIFIABLE


def _reason(error: BaseException) -> str:
    if isinstance(error, FileNotFoundError):
        return "is missing"
    return " ".join(
        str(getattr(error, "strerror", None) or f"{type(error).__name__}: {error}").split()
    )[:200]


def check_rest(report: Report, store: Store, progress: Progress = lambda done, total: None) -> None:
    """Verify the other objects of the cache too: earlier builds made them, and DVC's run cache may
    bring them back.
    """
    began = time.monotonic()
    paths = {path: path.parent.name + path.name for path in store.cache.glob("[0-9a-f][0-9a-f]/*")}
    rest = {
        path: md5
        for path, md5 in paths.items()
        if is_digest(md5.removesuffix(DIR)) and md5 not in report.checked
    }
    hashes = Hashes(set(rest), Stamps())
    hashes.run(progress)
    for path, md5 in sorted(rest.items()):
        found: Any = hashes.found[path]
        if isinstance(found, OSError):
            report.findings.append(
                Finding(_fault(found), "(earlier build)", path, path, _reason(found), md5)
            )
        elif found[0] != md5.removesuffix(DIR):
            what = _differs("md5", md5, found[0], hashes.sizes[path])
            report.findings.append(Finding(Fault.CORRUPT, "(earlier build)", path, path, what, md5))
    report.checked |= set(rest.values())
    report.objects, report.bytes = report.objects + len(rest), report.bytes + hashes.done
    report.seconds += time.monotonic() - began
