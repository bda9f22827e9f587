"""The one place that runs DataTrove. Every shard is made once, by key, and none is lost (design §5).

`SAFELM_EXECUTOR` says where shards are made: local (the default), ray or slurm. It is read from the environment, never
from params.yaml, for it changes no byte.
"""

import fcntl
import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path

import yaml

from safelm.blocks import NOT_SELECTED, Block, Task
from safelm.digest import MANIFEST
from safelm.files import link
from safelm.keyed import QUARANTINE, Keyed
from safelm.ledger import Ledger
from safelm.paths import build, cache, scratch
from safelm.plan import Plan, Recipe, StageError
from safelm.record import Record
from safelm.shards import Manifest
from safelm.store import Store

EXECUTORS = {
    "local": ("safelm.local", "LocalExecutor"),
    "ray": ("safelm.cluster.ray", "RayExecutor"),
    "slurm": ("safelm.cluster.slurm", "SlurmExecutor"),
}


def executor(plan: Plan) -> Keyed:
    """The executor that SAFELM_EXECUTOR names."""
    name = os.environ.get("SAFELM_EXECUTOR") or "local"
    if name not in EXECUTORS:
        raise StageError(f"SAFELM_EXECUTOR: expected {', '.join(EXECUTORS)} (got {name!r}); unset it for local")
    module, kind = EXECUTORS[name]
    return getattr(import_module(module), kind)(plan)


def key_of(stage: str, task: Task, blocks: Sequence[Block]) -> str:
    """The key of one shard of a stage."""
    return Recipe.of(stage, blocks).key(task)


@contextmanager
def locked(stage: str) -> Iterator[None]:
    """One build of a stage at a time; the second is refused with the number of the process that has it."""
    path = scratch("locks", stage.replace("/", "-"))
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            raise StageError(
                f"{stage}: process {file.read().strip()} is building it now; wait for it or stop it"
            ) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def make(stage: str, blocks: Sequence[Block], store: Store | None = None) -> Manifest:
    """Make the shards of a stage, or take them where their keys are known; nothing is put into build/ yet."""
    store = store or Store(cache(), scratch())
    plan = Plan.of(stage, blocks, store)
    if plan.missing():
        store.learn(_locked_records(stage, store))
    made = executor(plan).build()
    manifest = plan.manifest()
    manifest.ledger.check(stage)
    _something(stage, manifest.ledger)
    _made[stage] = _made.get(stage, 0) + made
    return manifest


_made: dict[str, int] = {}


def _something(stage: str, ledger: Ledger) -> None:
    """A stage that had documents to work on and made none of them has failed; an empty selection has not."""
    wanted = ledger.rows_in - ledger.dropped.get(NOT_SELECTED, 0)
    if wanted and not ledger.rows_out:
        raise StageError(
            f"{stage}: made nothing of {wanted:,} rows: {ledger.sentence()}; see the quarantine or loosen the filters"
        )


def _locked_records(stage: str, store: Store) -> Iterator[Record]:
    """The records in the manifest that dvc.lock names for this stage: a build that was pulled is known too."""
    lock = Path("dvc.lock")
    if not lock.is_file():
        return
    stages = (yaml.load(lock.read_bytes(), Loader=yaml.CSafeLoader) or {}).get("stages", {})
    outs = (out for entry in stages.values() for out in entry.get("outs", []))
    for out in outs:
        if build(stage).is_relative_to(out["path"]) and out["md5"].endswith(".dir"):
            manifest = (build(stage) / MANIFEST).relative_to(out["path"]).as_posix()
            try:
                listing = json.loads(store.object(out["md5"]).read_bytes())
                md5 = next(item["md5"] for item in listing if item["relpath"] == manifest)
                yield from (record for _, record in Manifest.parse(store.object(md5).read_bytes()).tasks)
            except (OSError, ValueError, StopIteration):
                continue  # not in this cache: the shards are made


def assemble(manifest: Manifest, folder: Path, store: Store | None = None) -> None:
    """Link the shards of a manifest into a fresh folder and put it in place with one rename."""
    attempt = scratch("attempts", f"build.{manifest.stage.replace('/', '-')}.{os.getpid()}")
    shutil.rmtree(attempt, ignore_errors=True)
    lay(manifest, attempt, store)
    publish(attempt, folder)


def lay(manifest: Manifest, folder: Path, store: Store | None = None) -> None:
    """Link the files of a manifest, and write it, into a folder that is not there yet."""
    store = store or Store(cache(), scratch())
    folder.mkdir(parents=True)
    for name, file in manifest.files():
        link(store.object(file.md5), folder / name)
    manifest.write(folder)


def publish(attempt: Path, folder: Path) -> None:
    """Put a finished folder in its place. What stood there, from a run by hand, goes first."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    os.rename(attempt, folder)


@contextmanager
def artifact(folder: Path) -> Iterator[Path]:
    """A fresh folder to write into; it takes the place of `folder` when the block ends without an error."""
    attempt = scratch("attempts", f"artifact.{folder.as_posix().replace('/', '-')}.{os.getpid()}")
    shutil.rmtree(attempt, ignore_errors=True)
    attempt.mkdir(parents=True)
    yield attempt
    publish(attempt, folder)


def run(stage: str, blocks: Sequence[Block]) -> Manifest:
    """Build a stage: its shards, its folder build/<stage>, and one line that says where every row went."""
    began = time.monotonic()
    with locked(stage):
        manifest = make(stage, blocks)
        finish(manifest, began)
    return manifest


def finish(manifest: Manifest, began: float) -> None:
    """Assemble build/<stage> and print the stage's summary line."""
    assemble(manifest, build(manifest.stage))
    tell(manifest, began)


def tell(manifest: Manifest, began: float) -> None:
    """Print the summary line of what was made."""
    made, total = _made.pop(manifest.stage, 0), len(manifest.tasks)
    seconds = time.monotonic() - began
    print(
        f"{manifest.stage:<18} {total} shards ({made} made)  {manifest.ledger.sentence()}  {seconds:.1f} s", flush=True
    )


__all__ = [
    "QUARANTINE",
    "StageError",
    "artifact",
    "assemble",
    "executor",
    "finish",
    "key_of",
    "lay",
    "locked",
    "make",
    "publish",
    "run",
    "tell",
]
