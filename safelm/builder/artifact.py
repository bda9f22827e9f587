"""Artifacts: outputs without shards, cached by key too: a model, metrics, the report."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, is_dataclass, replace
from pathlib import Path
from typing import Any

from safelm.builder.digest import MANIFEST
from safelm.builder.files import remove_stale
from safelm.builder.fingerprint import Fingerprint
from safelm.builder.locks import StageError, locked
from safelm.builder.manifest import Counts, DamagedShard, Ledger, Manifest, ManifestEntry
from safelm.builder.paths import build
from safelm.builder.provenance import check_inputs, walk_values
from safelm.builder.shards import Shard, check_folder
from safelm.builder.stage import assemble, import_records
from safelm.builder.store import project_store

Make = Callable[..., Iterable[str]]
Values = Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """A file of an artifact with a key of its own, written by `make(folder, **values)`.

    The file's name is a suffix alone. It is made once, whatever else of the artifact changes, and
    its key does not depend on the artifact. A value, or an item of a list, mapping or
    dataclass, may itself be a part: it is made first, `make` gets its Shard, and it counts by its
    content.
    """

    make: Make
    values: Values


@dataclass(frozen=True)
class Made:
    """An entry of the manifest, and the lines that `make` returned; None for a cached entry."""

    entry: ManifestEntry
    lines: list[str] | None


def artifact(
    stage: str,
    make: Make,
    /,
    *,
    reads: Sequence[Path] = (),
    parts: Mapping[str, Part] | None = None,
    **values: Any,
) -> None:
    """Build the folder build/<stage> with `make(folder, **values)`, or take it from the cache.

    The key is a digest of the values, of the code behind `make` and of the libraries it imports.
    `make` writes into an empty folder and returns the lines that the stage prints.

    Args:
        reads: files and folders that `make` reads without getting their path.
        parts: files with keys of their own, by name. They are made first, stand in the folder
            under their names, and reach `make` as `parts`: a Shard for each name.
        values: a Path counts by the content of that file or folder.

    Raises:
        StageError: `make` wrote no file, an input changed meanwhile, or the stage is locked.
        DamagedShard: a folder among the values does not hold what its manifest promises.
    """
    began = time.monotonic()
    builder = _Builder(stage)
    made: dict[str, Made] = {}
    with locked(stage):
        for name, part in (parts or {}).items():
            made[name] = builder.part(part)
        entries = {name: part.entry for name, part in made.items()}
        if parts is not None:
            values["parts"] = {name: builder.shard(entry) for name, entry in entries.items()}
        whole = builder.make(make, reads, values)
        # No task name: the suffixes of these files are their whole names.
        manifest = Manifest(stage, (("", whole.entry), *entries.items()))
        assemble(manifest, build(stage), builder.store)
    lines = whole.lines
    if lines is None:
        lines = [_cached_line(stage, whole.entry, time.monotonic() - began)]
    if made:
        cached = sum(part.lines is None for part in made.values())
        count = f"{len(made) - cached} made, {cached} cached"
        lines = [*lines, f"{stage:<18} {len(made)} parts: {count}"]
    print(*lines, sep="\n", flush=True)


def _cached_line(stage: str, entry: ManifestEntry, seconds: float) -> str:
    size = sum(file.bytes for file in entry.files)
    files = f"{len(entry.files)} files, {size:,} bytes"
    return f"{stage:<18} cached  {files}  {seconds:.1f} s"


class _Builder:
    """A builder of one artifact, which makes every part once, however many need it."""

    def __init__(self, stage: str) -> None:
        self.stage = stage
        self.store = project_store()
        self.parts: dict[int, Made] = {}  # by identity: a part need not be hashable
        self.has_imported = False

    def part(self, part: Part) -> Made:
        """Make a part, after the parts among its values."""
        if id(part) not in self.parts:
            values = {name: self._with_shards(value) for name, value in part.values.items()}
            self.parts[id(part)] = self.make(part.make, [], values)
        return self.parts[id(part)]

    def _with_shards(self, value: Any) -> Any:
        if isinstance(value, Part):
            return self.shard(self.part(value).entry)
        if isinstance(value, list):
            return [self._with_shards(item) for item in value]
        if isinstance(value, dict):
            return {key: self._with_shards(item) for key, item in value.items()}
        if is_dataclass(value) and not isinstance(value, type):
            return replace(value, **self._with_shards(vars(value)))
        return value

    def shard(self, entry: ManifestEntry) -> Shard:
        """Return the one file of a part."""
        (file,) = entry.files
        return self.store.shard(file)

    def make(self, make: Make, reads: Sequence[Path], values: Values) -> Made:
        """Call `make` in a temporary directory and commit its files, unless its key is cached."""
        # Before the key, which takes manifests at their word.
        check_inputs([reads, values])
        fingerprint = _fingerprint(self.stage, make, reads, values)
        key = fingerprint.key()
        if entry := self._cached(key):
            return Made(entry, None)
        # Their manifests are in the key, and their files may have been damaged since.
        for folder in _folders_with_manifest([reads, values]):
            check_folder(folder)
        remove_stale(self.store.temporary_root)
        with self.store.temporary_directory(key) as folder:
            lines = list(make(folder, **values))
            # The key was computed before: after an edit it would name bytes of other code.
            afterwards = _fingerprint(self.stage, make, reads, values)
            if fingerprint.differences(afterwards):
                raise StageError(
                    f"{self.stage}: a file or the code changed during the run; run the stage again"
                )
            rows = _rows(self.stage, folder)
            return Made(self.store.commit(key, folder, rows, Ledger()), lines)

    def _cached(self, key: str) -> ManifestEntry | None:
        entry = self.store.get(key)
        if entry is None and not self.has_imported:
            self.has_imported = True  # dvc.lock is read once, however many keys are missing
            import_records(self.stage, self.store)
            entry = self.store.get(key)
        if entry is None:
            self._report_damage(key)
        return entry

    def _report_damage(self, key: str) -> None:
        try:
            self.store.load(key)
        except DamagedShard as error:
            print(f"{self.stage}: {error}; it is made again", file=sys.stderr, flush=True)
        except OSError:
            pass  # never made here, or collected as garbage


def _fingerprint(
    stage: str,
    make: Make,
    reads: Sequence[Path],
    values: Values,
) -> Fingerprint:
    module = make.__module__
    # A module that was started as a script has the name __main__ for itself.
    main = sys.modules["__main__"].__spec__
    if module == "__main__" and main:
        module = main.name
    declared = [make.__qualname__, dict(values), list(reads)]
    return Fingerprint.of(stage, declared, [module])


def _rows(stage: str, folder: Path) -> Counts:
    """List the files that were written, each with 0 rows: only shards count theirs."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    if not files:
        raise StageError(f"{stage}: expected at least one file, but none was written")
    return {path.relative_to(folder).as_posix(): 0 for path in files}


def _folders_with_manifest(value: Any) -> Iterator[Path]:
    """Yield folders with a manifest, in values of any nesting and inside of other folders."""
    for path in walk_values(value):
        if not isinstance(path, Path):
            continue
        if (path / MANIFEST).is_file():
            yield path
        elif path.is_dir():
            yield from (file.parent for file in sorted(path.rglob(MANIFEST)))
