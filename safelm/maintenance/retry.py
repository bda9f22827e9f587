"""The command `safelm retry`: ask a language model again about the rows that it gave nothing for.

These are the rows that a provider refused, and those whose answers were no valid verdict: in a
corpus, among scores or in an evaluation. Their shards leave the index and are made again; every
accepted answer is stored, so that only theirs are requested.
"""

import os
from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq

from safelm.builder.digest import MANIFEST
from safelm.builder.locks import StageError, locked
from safelm.builder.manifest import Manifest
from safelm.builder.paths import scratch
from safelm.builder.shards import Shard
from safelm.builder.stage import RETRY, import_records
from safelm.builder.store import Store, project_store
from safelm.llm.answers import AnswerStore
from safelm.maintenance.dvc import run_dvc
from safelm.maintenance.verify.lock_file import read_lock

# The folders of answers of the judges that label and score, and of those that evaluate.
JUDGED = ("judge", "verdict")
SCORE = "score"
# The columns of measurements.parquet in which evaluations count what stayed unjudged.
MEASURED = ["metric", "form", "count"]


def retry(stage: str) -> str:
    """Make the shards of a stage again that have rows without a usable answer.

    Returns:
        A line with the number of these rows before and after.

    Raises:
        StageError: dvc.lock has no such stage.
        DvcError: the stage failed.
    """
    stages = read_lock()
    if stage not in stages:
        names = ", ".join(sorted(stages))
        raise StageError(f"{stage}: is no stage of dvc.lock; it has {names}")
    folders = [out.path for out in stages[stage].outs]
    store = project_store()
    before = _unusable_rows(folders, store)
    if not before:
        return f"{stage}: every row has a usable answer; there is nothing to ask again"
    # DVC calls the stage score/web score@web.
    with locked(stage.replace("@", "/")):
        for manifest in _manifests(folders):
            # First, so that the other shards are not made again.
            import_records(manifest.stage, store)
        store.forget(before)
        for folder in JUDGED:
            for path in scratch("answers", folder).rglob("*.jsonl"):
                with AnswerStore(path) as answers:
                    answers.forget_rejected()
    # Forced: DVC sees no change, and its run cache has the old output.
    os.environ[RETRY] = stage
    try:
        run_dvc("repro", "--single-item", "--force", stage)
    finally:
        del os.environ[RETRY]
    rows = sum(before.values())
    left = sum(_unusable_rows(folders, store).values())
    return f"{stage}: rows without a usable answer: {rows:,} before, {left:,} now"


def _manifests(folders: list[Path]) -> Iterator[Manifest]:
    """Yield the manifests of the answers: those of score and audit lie in folders within."""
    for folder in folders:
        within = sorted(folder.glob(f"*/{MANIFEST}"))
        for path in within or folder.glob(MANIFEST):
            yield Manifest.read(path.parent)


def _unusable_rows(folders: list[Path], store: Store) -> dict[str, int]:
    """Return the number of rows without a usable answer, for each key of a shard with any."""
    rows: dict[str, int] = {}
    for manifest in _manifests(folders):
        for entry in manifest.entries():
            count = sum(entry.ledger.quarantined.values())
            for file in entry.files:
                if file.is_table:
                    count += _ungraded(store.shard(file))
            if count:
                rows[entry.key] = count
    return rows


def _ungraded(shard: Shard) -> int:
    """Count the rows without a score, which the stage `score` keeps, or without a verdict."""
    names = pq.read_schema(shard.path).names
    if SCORE in names:
        return shard.table([SCORE])[SCORE].null_count
    if not set(MEASURED).issubset(names):
        return 0
    rows = shard.table(MEASURED).to_pylist()
    totals = [row for row in rows if row["metric"] == "unjudged" and row["form"] is None]
    return sum(row["count"] for row in totals)
