"""The one place that runs DataTrove. Every shard is made once, by key, and none is lost (design
§5).

`SAFELM_EXECUTOR` says where shards are made: local (the default), ray or slurm. It is read from the
environment, never from params.yaml, for it changes no byte."""

import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module

from safelm.builder.blocks import NOT_SELECTED, Block, Task
from safelm.builder.executors.base import QUARANTINE, CachedExecutor
from safelm.builder.files import remove_stale
from safelm.builder.manifest import Ledger, Manifest
from safelm.builder.paths import build, cache, scratch
from safelm.builder.plan import Plan, shard_keys
from safelm.builder.stage import StageError, assemble, import_records, locked
from safelm.builder.store import Store

EXECUTORS = {
    "local": ("safelm.builder.executors.local", "LocalExecutor"),
    "ray": ("safelm.builder.executors.ray", "RayExecutor"),
    "slurm": ("safelm.builder.executors.slurm", "SlurmExecutor"),
}


def executor(plan: Plan) -> CachedExecutor:
    """The executor that SAFELM_EXECUTOR names."""
    name = os.environ.get("SAFELM_EXECUTOR") or "local"
    if name not in EXECUTORS:
        raise StageError(
            f"SAFELM_EXECUTOR: expected {', '.join(EXECUTORS)} (got {name!r}); unset it for local"
        )
    module, kind = EXECUTORS[name]
    return getattr(import_module(module), kind)(plan)


def shard_key(stage: str, task: Task, blocks: Sequence[Block]) -> str:
    """The key of one shard of a stage."""
    return shard_keys(stage, blocks, [task])[0]


def make_shards(stage: str, blocks: Sequence[Block], store: Store | None = None) -> Manifest:
    """Make the shards of a stage, or take them where their keys are known; nothing is put into
    build/ yet.
    """
    store = store or Store(cache(), scratch())
    plan = Plan.of(stage, blocks, store)
    if plan.missing():
        remove_stale(store.temporary_root)
        import_records(stage, store)
    made = executor(plan).build()
    manifest = replace(plan.manifest(), made=made)
    manifest.ledger.check(stage)
    _something(stage, manifest.ledger)
    return manifest


def _something(stage: str, ledger: Ledger) -> None:
    """A stage that had documents to work on and made none of them has failed; an empty selection
    has not.
    """
    wanted = ledger.rows_in - ledger.dropped.get(NOT_SELECTED, 0)
    if wanted and not ledger.rows_out:
        raise StageError(
            f"{stage}: made nothing of {wanted:,} rows: {ledger.summary()}; see the quarantine or loosen the filters"
        )


def run(stage: str, blocks: Sequence[Block]) -> Manifest:
    """Build a stage: its shards, its folder build/<stage>, and one line that says where every row
    went.
    """
    began = time.monotonic()
    with locked(stage):
        manifest = make_shards(stage, blocks)
        finish(manifest, began)
    return manifest


def finish(manifest: Manifest, began: float, inside: Mapping[str, Manifest] | None = None) -> None:
    """Assemble build/<stage>, with further manifests in folders of it, and print the stage's
    summary line.
    """
    assemble(manifest, build(manifest.stage), Store(cache(), scratch()), inside)
    print_summary(manifest, began)


def print_summary(manifest: Manifest, began: float) -> None:
    """Print the summary line of what was made."""
    shards = f"{len(manifest.tasks)} shards ({manifest.made} made)"
    seconds = time.monotonic() - began
    print(
        f"{manifest.stage:<18} {shards}  {manifest.ledger.summary()}  {seconds:.1f} s", flush=True
    )


__all__ = [
    "QUARANTINE",
    "StageError",
    "executor",
    "finish",
    "shard_key",
    "lay",
    "locked",
    "make_shards",
    "print_summary",
    "run",
]
