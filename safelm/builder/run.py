"""Run the DataTrove blocks of a stage: each shard is made once, by key, and none is lost.

SAFELM_EXECUTOR says where shards are made: local (the default), ray or slurm. It is read from the
environment and never from params.yaml, because it changes no byte.
"""

import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from importlib import import_module

from safelm.builder.blocks import NOT_SELECTED, Block
from safelm.builder.executors.base import CachedExecutor
from safelm.builder.files import remove_stale
from safelm.builder.locks import StageError, locked
from safelm.builder.manifest import Manifest
from safelm.builder.paths import build
from safelm.builder.plan import Plan
from safelm.builder.provenance import SHARDS, check_inputs, record_made
from safelm.builder.stage import assemble, import_records
from safelm.builder.store import Store, project_store

# Imported by name: Ray is an extra that may not be installed.
EXECUTORS = {
    "local": ("safelm.builder.executors.local", "LocalExecutor"),
    "ray": ("safelm.builder.executors.ray", "RayExecutor"),
    "slurm": ("safelm.builder.executors.slurm", "SlurmExecutor"),
}


class EmptyOutputError(StageError):
    """A stage had rows to work on and gave none; `manifest` names what it quarantined."""

    def __init__(self, message: str, manifest: Manifest) -> None:
        super().__init__(message)
        self.manifest = manifest


def run(stage: str, blocks: Sequence[Block]) -> Manifest:
    """Build a stage: its shards, its folder build/<stage>, and one line that accounts for its rows.

    Raises:
        StageError: a shard could not be made, or another process builds the stage.
        LedgerError: a block added or lost rows without counting them.
    """
    began = time.monotonic()
    with locked(stage):
        manifest = make_shards(stage, blocks)
        finish(manifest, began)
    return manifest


def make_shards(stage: str, blocks: Sequence[Block], store: Store | None = None) -> Manifest:
    """Make the shards of a stage that are not cached; put nothing into build/ yet."""
    store = store or project_store()
    check_inputs(blocks)
    plan = Plan.of(stage, blocks, store)
    # Where everything is cached, dvc.lock need not be read.
    if plan.missing():
        remove_stale(store.temporary_root)
        import_records(stage, store)
        for line in plan.problems():
            print(line, file=sys.stderr, flush=True)
    made = executor(plan).build()
    manifest = replace(plan.manifest(), made=made)
    record_made(manifest, SHARDS)
    manifest.ledger.check(stage)
    _refuse_empty(plan, manifest)
    return manifest


def _refuse_empty(plan: Plan, manifest: Manifest) -> None:
    """Fail a stage that had rows to work on and gave none; an empty selection is no failure."""
    ledger = manifest.ledger
    selected = ledger.rows_in - ledger.dropped.get(NOT_SELECTED, 0)
    if selected and not ledger.rows_out:
        # By their keys the empty shards would outlive the cause, such as a server's bad hour.
        plan.store.forget(plan.keys)
        raise EmptyOutputError(
            f"{plan.stage}: produced no output from {selected:,} rows: {ledger.summary()}; "
            "see the quarantine or loosen the filters",
            manifest,
        )


def executor(plan: Plan) -> CachedExecutor:
    """Create the executor that SAFELM_EXECUTOR names."""
    name = os.environ.get("SAFELM_EXECUTOR") or "local"
    if name not in EXECUTORS:
        raise StageError(
            f"SAFELM_EXECUTOR: expected {', '.join(EXECUTORS)} (got {name!r}); unset it for local"
        )
    module, class_name = EXECUTORS[name]
    return getattr(import_module(module), class_name)(plan)


def finish(manifest: Manifest, began: float, inside: Mapping[str, Manifest] | None = None) -> None:
    """Install build/<stage> and print its summary; `inside` are manifests by folder within it."""
    assemble(manifest, build(manifest.stage), project_store(), inside)
    print_summary(manifest, began)


def print_summary(manifest: Manifest, began: float) -> None:
    """Print a line with the number of shards, the ledger and the seconds since `began`."""
    shards = f"{len(manifest.tasks)} shards ({manifest.made} made)"
    ledger = manifest.ledger.summary()
    seconds = time.monotonic() - began
    print(f"{manifest.stage:<18} {shards}  {ledger}  {seconds:.1f} s", flush=True)
