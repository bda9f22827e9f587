"""The one place that runs DataTrove. Every shard is made once, by key, and none is lost.

A shard's key is a digest of its inputs, the declared values, the first-party code and the versions of the libraries
that shape the bytes. A known key is taken, not made. DataTrove's own completion marks, which outlive the outputs they
speak of, never decide (design §5).
"""

import ctypes
import fcntl
import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from importlib.metadata import version
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

os.environ.setdefault("LOGURU_DIAGNOSE", "NO")  # a traceback must not show the values of variables: they hold web text

import yaml
from datatrove.executor import base as datatrove_base
from datatrove.executor.local import LocalPipelineExecutor
from loguru import logger
from tqdm import tqdm

from safelm.blocks import NOT_SELECTED, Block, Reader, Task, Writer
from safelm.code import code_digest
from safelm.ledger import Ledger
from safelm.paths import build, cache, scratch, workers
from safelm.shards import MANIFEST, Manifest
from safelm.store import Record, Store, link

LIBRARIES = ("datatrove", "pyarrow", "numpy")
SMALL = 4 << 20  # bytes of input under which starting worker processes costs more than they save
QUARANTINE = ".quarantine.jsonl"


class StageError(RuntimeError):
    """A stage could not be built; the message says which shard and why."""


def _log_to_file(logging_dir: Any, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
    """Stands in for datatrove/utils/logging.py:40, which also writes some 15 lines a task to the screen."""
    logger.remove()
    file = logging_dir.open(f"logs/task_{rank:05d}.log", "w")
    logger.add(file, level="DEBUG", diagnose=False)
    return file


def _close_log(file: Any) -> None:
    logger.remove()
    file.close()


datatrove_base.add_task_logger = _log_to_file
datatrove_base.close_task_logger = _close_log


def key_of(stage: str, task: Task, blocks: Sequence[Block]) -> str:
    """The key of a shard: no path, no rank and no number of workers goes into it."""
    libraries = sorted({*LIBRARIES, *(library for block in blocks for library in block.libraries)})
    parts = [
        stage.partition("/")[0],
        [item.sha256 for item in task.inputs],
        task.values,
        [block.declared() for block in blocks],
        code_digest(sorted({type(block).__module__ for block in blocks})),
        [[library, version(library)] for library in libraries],
        list(sys.version_info[:2]),
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class ShardExecutor(LocalPipelineExecutor):
    """DataTrove's local executor, with the store in place of its completion marks and workers that are watched."""

    pipeline: list[Any]

    def __init__(
        self, stage: str, blocks: Sequence[Block], tasks: Sequence[Task], keys: Sequence[str], store: Store
    ) -> None:
        logs = scratch("logs", stage)
        super().__init__(
            pipeline=list(blocks), tasks=max(len(tasks), 1), workers=workers(), logging_dir=str(logs.absolute())
        )
        self.stage, self.shards, self.keys, self.store = stage, list(tasks), list(keys), store

    def is_rank_completed(self, rank: int) -> bool:
        """A shard is done when the store has its key."""
        return self.store.get(self.keys[rank]) is not None

    def get_incomplete_ranks(self, ranks: Any = None, skip_completed: Any = None) -> list[int]:
        """The shards to make."""
        return [rank for rank in range(len(self.shards)) if not self.is_rank_completed(rank)]

    def save_executor_as_json(self, indent: int = 4) -> None:
        """Nothing: DataTrove would write every value of the blocks, secrets too, in clear."""

    def _run_for_rank(self, rank: int, local_rank: int = 0, node_rank: int = -1) -> Any:
        attempt = self.store.attempt(self.keys[rank])
        for block in self.pipeline:
            block.begin(self.shards[rank], attempt)
        return super()._run_for_rank(rank, local_rank, node_rank)

    def mark_rank_as_completed(self, rank: int) -> None:
        """Commit the attempt: check the ledger, hash, sync, rename, record."""
        reader, *_, writer = self.pipeline
        quarantined = [row for block in self.pipeline for row in block.quarantined]
        ledger = Ledger(
            rows_in=reader.rows_in,
            rows_out=writer.rows,
            dropped=_counts(name for block in self.pipeline for name in block.dropped.elements()),
            quarantined=_counts(row["reason"] for row in quarantined),
        ).check(f"{self.stage}: shard {self.shards[rank].name}")
        files = dict(writer.files)
        if quarantined:
            lines = "".join(json.dumps(row, sort_keys=True, ensure_ascii=False) + "\n" for row in quarantined)
            (writer.attempt / QUARANTINE).write_text(lines, encoding="utf-8")
            files[QUARANTINE] = len(quarantined)
        self.store.put(self.keys[rank], writer.attempt, files, ledger)

    def run(self) -> int:
        """Make every missing shard; the number made."""
        todo = self.get_incomplete_ranks()
        bar = tqdm(
            total=len(self.shards), initial=len(self.shards) - len(todo), desc=self.stage, unit="shard", leave=False,
            disable=not sys.stderr.isatty(),
        )  # fmt: skip
        with bar:
            size = sum(item.path.stat().st_size for rank in todo for item in self.shards[rank].inputs)
            if len(todo) < 2 or self.workers < 2 or size < SMALL:
                self._run_here(todo, bar)
            else:
                self._run_side_by_side(deque(todo), bar)
        return len(todo)

    def _run_here(self, todo: Sequence[int], bar: Any) -> None:
        pipeline = self.pipeline
        for rank in todo:
            self.pipeline = deepcopy(pipeline)
            try:
                self._run_for_rank(rank)
            except Exception as error:
                raise StageError(f"{self.stage}: shard {self.shards[rank].name}: {_sentence(error)}") from error
            bar.update()
        self.pipeline = pipeline

    def _run_side_by_side(self, todo: deque[int], bar: Any) -> None:
        """Workers on pipes: one that dies is an error naming shard and signal (a pool would wait for ever)."""
        context = multiprocessing.get_context("spawn")
        processes: dict[Connection, Any] = {}
        busy: dict[Connection, int] = {}
        try:
            for _ in range(min(self.workers, len(todo))):
                ours, theirs = context.Pipe()
                process = context.Process(target=_worker, args=(self, theirs, os.getpid()), daemon=True)
                process.start()
                theirs.close()
                processes[ours] = process
                self._give(ours, todo, busy)
            while busy:
                for connection in wait(list(busy)):
                    assert isinstance(connection, Connection)
                    self._answer(connection, processes[connection], busy.pop(connection))
                    bar.update()
                    if todo:
                        self._give(connection, todo, busy)
        finally:
            for process in processes.values():
                process.kill()
            for process in processes.values():
                process.join()

    @staticmethod
    def _give(connection: Connection, todo: deque[int], busy: dict[Connection, int]) -> None:
        busy[connection] = todo.popleft()
        connection.send(busy[connection])

    def _answer(self, connection: Connection, process: Any, rank: int) -> None:
        name = self.shards[rank].name
        try:
            error = connection.recv()
        except (EOFError, ConnectionResetError):
            process.join()
            raise StageError(
                f"{self.stage}: shard {name}: its worker died ({_cause(process.exitcode)}); "
                "finished shards are kept, run the stage again"
            ) from None
        if error:
            raise StageError(f"{self.stage}: shard {name}: {error}")


def _worker(executor: ShardExecutor, connection: Connection, parent: int) -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: no worker outlives the stage
    if os.getppid() != parent:
        os._exit(1)
    pipeline = executor.pipeline
    while True:
        rank = connection.recv()
        executor.pipeline = deepcopy(pipeline)
        try:
            executor._run_for_rank(rank)
            connection.send(None)
        except Exception as error:
            connection.send(_sentence(error))


def _sentence(error: BaseException) -> str:
    return f"{type(error).__name__}: {error}"[:2000]


def _cause(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"


def _counts(names: Any) -> dict[str, int]:
    counts: dict[str, int] = {}
    for name in names:
        counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


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
    reader, writer = blocks[0], blocks[-1]
    assert isinstance(reader, Reader) and isinstance(writer, Writer), (
        "a stage begins with a reader and ends with a writer"
    )
    store = store or Store(cache(), scratch())
    tasks = reader.tasks()
    keys = [key_of(stage, task, blocks) for task in tasks]
    if any(store.get(key) is None for key in keys):
        store.learn(_locked_records(stage, store))
    executor = ShardExecutor(stage, blocks, tasks, keys, store)
    made = executor.run()
    records = [store.get(key) for key in keys]
    lost = [task.name for task, record in zip(tasks, records, strict=True) if record is None]
    if lost:
        raise StageError(
            f"{stage}: {len(lost)} of {len(tasks)} shards are missing after the run, {lost[0]} first; "
            "run the stage again"
        )
    manifest = Manifest(
        stage, tuple((task.name, record) for task, record in zip(tasks, records, strict=True) if record)
    )
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
        if out["path"] == build(stage).as_posix() and out["md5"].endswith(".dir"):
            try:
                listing = json.loads(store.object(out["md5"]).read_bytes())
                md5 = next(item["md5"] for item in listing if item["relpath"] == MANIFEST)
                yield from (record for _, record in Manifest.parse(store.object(md5).read_bytes()).tasks)
            except (OSError, ValueError, StopIteration):
                continue  # not in this cache: the shards are made


def assemble(manifest: Manifest, folder: Path, store: Store | None = None) -> None:
    """Link the shards of a manifest into a fresh folder and put it in place with one rename."""
    store = store or Store(cache(), scratch())
    attempt = scratch("attempts", f"build.{manifest.stage.replace('/', '-')}.{os.getpid()}")
    shutil.rmtree(attempt, ignore_errors=True)
    attempt.mkdir(parents=True)
    for name, file in manifest.files():
        link(store.object(file.md5), attempt / name)
    manifest.write(attempt)
    publish(attempt, folder)


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
    made, total = _made.pop(manifest.stage, 0), len(manifest.tasks)
    seconds = time.monotonic() - began
    print(
        f"{manifest.stage:<18} {total} shards ({made} made)  {manifest.ledger.sentence()}  {seconds:.1f} s", flush=True
    )
