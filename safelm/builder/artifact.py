"""What is not made of shards goes by key too: a model, a tokenizer, metrics, the report."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from safelm.builder.digest import MANIFEST
from safelm.builder.files import remove_stale
from safelm.builder.fingerprint import Fingerprint
from safelm.builder.manifest import Ledger, Manifest, ManifestEntry
from safelm.builder.paths import build, cache, scratch
from safelm.builder.shards import Shard, check_folder
from safelm.builder.stage import StageError, assemble, import_records, locked
from safelm.builder.store import Store

Made = tuple[ManifestEntry, list[str] | None]  # the lines that were told; None of what was known


@dataclass(frozen=True)
class Part:
    """A file of an artifact with a key of its own: `make(folder, **values)` writes it, named by its
    suffix alone.

    It is made once, whatever else of the artifact changes, and its key does not know which artifact
    it is of. A value, or an item of a list, may be a piece too: it is made before, `make` gets its
    Shard, and it counts by its content."""

    make: Callable[..., Iterable[str]]
    values: Mapping[str, Any]


def artifact(
    stage: str,
    make: Callable[..., Iterable[str]],
    /,
    *,
    reads: Sequence[Path] = (),
    pieces: Mapping[str, Part] | None = None,
    **values: Any,
) -> None:
    """Build the folder build/<stage> with `make(folder, **values)`, or take it where its key is
    known.

    The key is a digest of the values, of the code behind `make` and of the libraries it imports. A
    value that is a Path counts by the content of that file or folder; `reads` are files and folders
    that `make` reads without being told. `make` writes into an empty folder and returns the lines
    that the stage prints. Pieces are made first, each under its own key; they stand in the folder
    under their names, and `make` gets them as `pieces`, a Shard for each."""
    store = Store(cache(), scratch())
    teach = lru_cache(
        partial(import_records, stage, store)
    )  # dvc.lock is read once, however many pieces are unknown
    began = time.monotonic()
    done: dict[int, Made] = {}  # by the identity of a piece: many may need one

    def piece_made(piece: Part) -> Made:
        if id(piece) not in done:
            found = {name: _with_shards(value, shard_of) for name, value in piece.values.items()}
            done[id(piece)] = _kept(stage, piece.make, [], found, store, teach)
        return done[id(piece)]

    def shard_of(piece: Part) -> Shard:
        return _shard(piece_made(piece)[0], store)

    with locked(stage):
        made = {name: piece_made(piece) for name, piece in (pieces or {}).items()}
        if pieces is not None:
            values["pieces"] = {name: _shard(record, store) for name, (record, _) in made.items()}
        record, lines = _kept(stage, make, reads, values, store, teach)
        if lines is None:
            size = sum(file.bytes for file in record.files)
            seconds = time.monotonic() - began
            lines = [
                f"{stage:<18} known, not made again  {len(record.files)} files, {size:,} bytes  {seconds:.1f} s"
            ]
        parts = tuple((name, part) for name, (part, _) in made.items())
        assemble(Manifest(stage, (("", record), *parts)), build(stage), store)
    if made:
        fresh = sum(one is not None for _, one in made.values())
        lines.append(f"{stage:<18} {len(made)} parts: {fresh} made, {len(made) - fresh} known")
    print(*lines, sep="\n", flush=True)


def _kept(
    stage: str,
    make: Callable[..., Any],
    reads: Sequence[Path],
    values: Mapping[str, Any],
    store: Store,
    teach: Callable[[], int],
) -> Made:
    """The record of what is made, and the lines that `make` returned; None where it was known.

    `teach` makes known what was pulled; the number of records that were new.
    """
    recipe = _recipe(stage, make, reads, values)
    key = recipe.key()
    known = store.get(key) or (teach() and store.get(key)) or None
    if known:
        return known, None
    for path in _manifested([*reads, *values.values()]):
        check_folder(path)
    remove_stale(store.temporary_root)
    with store.temporary_directory(key) as attempt:
        lines = list(make(attempt, **values))
        if recipe.differences(_recipe(stage, make, reads, values)):
            raise StageError(
                f"{stage}: input changed during run, a file or the code; run the stage again"
            )
        return store.commit(key, attempt, _files(stage, attempt), Ledger()), lines


def _with_shards(value: Any, shard_of: Callable[[Part], Shard]) -> Any:
    """A value of a piece, with a Shard in the place of every other piece."""
    if isinstance(value, Part):
        return shard_of(value)
    return [_with_shards(item, shard_of) for item in value] if isinstance(value, list) else value


def _shard(record: ManifestEntry, store: Store) -> Shard:
    (file,) = record.files
    return Shard(store.object(file.md5), file.rows, file.sha256)


def _recipe(
    stage: str, make: Callable[..., Any], reads: Sequence[Path], values: Mapping[str, Any]
) -> Fingerprint:
    main = sys.modules["__main__"].__spec__  # a module that was started has another name in itself
    module = main.name if main and make.__module__ == "__main__" else make.__module__
    return Fingerprint.of(stage, [make.__qualname__, dict(values), list(reads)], [module])


def _files(stage: str, attempt: Path) -> dict[str, int]:
    """Every file that was written, with its rows as a record wants them: none."""
    files = sorted(path for path in attempt.rglob("*") if path.is_file())
    if not files:
        raise StageError(f"{stage}: has written no file")
    return {path.relative_to(attempt).as_posix(): 0 for path in files}


def _manifested(value: Any) -> Iterator[Path]:
    """The folders with a manifest among some values, or inside of them."""
    if isinstance(value, Path):
        if (value / MANIFEST).is_file():
            yield value
        elif value.is_dir():
            yield from (path.parent for path in sorted(value.rglob(MANIFEST)))
    elif isinstance(value, dict):
        for item in value.values():
            yield from _manifested(item)
    elif isinstance(value, list | tuple):
        for item in value:
            yield from _manifested(item)
