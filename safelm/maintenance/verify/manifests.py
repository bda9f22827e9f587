"""Manifests of a folder, verified against its listing and against the law of the ledger."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath

from safelm.builder.digest import MANIFEST, bytes_md5
from safelm.builder.manifest import DamagedShard, File, Ledger, LedgerError, Manifest, ManifestEntry
from safelm.builder.provenance import DIR
from safelm.builder.store import Store
from safelm.maintenance.verify.lock_file import DamagedLockFile, Listing, Out, read_listing
from safelm.maintenance.verify.report import (
    Fault,
    Finding,
    Need,
    Problem,
    describe,
    digest_problem,
    read_problem,
)

TABLE = ".parquet"
QUARANTINE = ".quarantine.jsonl"


def folder_needs(stage: str, out: Out, store: Store, findings: list[Finding]) -> Iterator[Need]:
    """Yield the files of a folder, each with its entry in a manifest; add findings on both."""
    assert out.md5
    path = store.object(out.md5)
    files = _read_listing(store, out.md5)
    if isinstance(files, Problem):
        findings.append(Finding(files.fault, stage, out.path, path, files.what, out.md5))
        return
    described: dict[str, File] = {}
    for prefix, own in _own_files(files).items():
        check = ManifestCheck(_within(files, prefix), own)
        check.run(store)
        name = out.path / prefix / MANIFEST
        md5 = files[prefix + MANIFEST]
        for fault, what in check.problems:
            findings.append(Finding(fault, stage, name, store.object(md5), what, md5))
        described.update({prefix + own_name: file for own_name, file in check.described.items()})
    for file_name, md5 in files.items():
        yield Need(stage, out.path / file_name, md5, described.get(file_name))


def _within(files: Listing, prefix: str) -> Listing:
    names = [name for name in files if name.startswith(prefix)]
    return {name.removeprefix(prefix): files[name] for name in names}


def _read_listing(store: Store, md5: str) -> Listing | Problem:
    try:
        data = store.object(md5).read_bytes()
        got = bytes_md5(data)
        if got != md5.removesuffix(DIR):
            return digest_problem("md5", md5, got, len(data))
        return read_listing(data)
    except DamagedLockFile as error:
        return Problem(Fault.CORRUPT, str(error))
    except OSError as error:
        return read_problem(error)


def _own_files(files: Iterable[str]) -> dict[str, set[str]]:
    """Group the files of a listing by the folder whose manifest must list them.

    A folder is written as a prefix: "" or one like "lexicon/". A file belongs to the innermost
    folder with a manifest.
    """
    manifests = [name for name in files if PurePosixPath(name).name == MANIFEST]
    prefixes = sorted((name.removesuffix(MANIFEST) for name in manifests), key=len)
    own: dict[str, set[str]] = {prefix: set() for prefix in prefixes}
    for name in files:
        around = [prefix for prefix in prefixes if name.startswith(prefix)]
        # Prefixes are sorted by length, so the last one is the innermost folder.
        if around:
            own[around[-1]].add(name.removeprefix(around[-1]))
    return own


class ManifestCheck:
    """A check of one manifest against the listing of its folder, name → md5.

    The manifest must list its `own` files. It may list those of folders inside, which have
    manifests too. `described` holds the files that it lists, `problems` what is wrong with it.
    """

    def __init__(self, listed: Listing, own: set[str]) -> None:
        self.listed = listed
        self.own = own
        self.described: dict[str, File] = {}
        self.problems: list[Problem] = []

    def run(self, store: Store) -> None:
        """Read the manifest from the store and check it."""
        md5 = self.listed[MANIFEST]
        try:
            data = store.object(md5).read_bytes()
            if bytes_md5(data) != md5:
                return  # reported when the objects are hashed
            manifest = Manifest.parse(data)
            total = Ledger(**json.loads(data)["ledger"])
        except FileNotFoundError:
            return  # as above
        except (OSError, ValueError, KeyError, TypeError, AttributeError, DamagedShard) as error:
            what = f"is not a manifest that this version can read ({describe(error)})"
            self.problems.append(Problem(Fault.UNVERIFIABLE, what))
            return
        self.described = dict(manifest.files())
        for what in (*_broken_ledgers(manifest, total), *self._disagreements()):
            self.problems.append(Problem(Fault.CORRUPT, what))

    def _disagreements(self) -> Iterator[str]:
        for name in sorted((self.described.keys() | self.own) - {MANIFEST}):
            file = self.described.get(name)
            if file is None or file.md5 != self.listed.get(name):
                yield f"does not agree with the folder's listing on {name}"


def _broken_ledgers(manifest: Manifest, total: Ledger) -> Iterator[str]:
    """Check that rows in = rows out + dropped + quarantined, for each shard and for the stage."""
    for name, entry in manifest.tasks:
        try:
            entry.ledger.check(f"shard {name}")
        except LedgerError as error:
            yield str(error)
            break
        yield from _broken_counts(name, entry)
    if total != manifest.ledger:
        yield f"the stage's ledger is not the sum of its shards': {total.summary()}"


def _broken_counts(name: str, entry: ManifestEntry) -> Iterator[str]:
    """Check that the files of a shard hold the rows of its ledger.

    A file with a name of its own (held_out.parquet of a scorer) was made of rows, and holds none.
    """
    rows: Counter[str] = Counter()
    for file in entry.files:
        for suffix in (TABLE, QUARANTINE):
            if file.suffix.startswith((".", "-")) and file.suffix.endswith(suffix):
                rows[suffix] += file.rows
    ledger = entry.ledger
    in_tables = rows[TABLE]
    if TABLE in rows and ledger.rows_in and in_tables != ledger.rows_out:
        yield f"shard {name}: its files hold {in_tables:,} rows, its ledger {ledger.rows_out:,}"
    if rows[QUARANTINE] != sum(ledger.quarantined.values()):
        yield f"shard {name}: its ledger and its quarantine do not agree"
