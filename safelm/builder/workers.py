"""Worker processes that are watched: one that dies is an error in moments, and none outlives its
parent.

A pool of Python's own waits for ever for a worker that the system killed (faults.md F6), and leaks
a manager process."""

import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from safelm.builder.files import suggest_remedy


class WorkFailed(RuntimeError):
    """A piece of work that could not be done, by number."""

    def __init__(self, number: int, cause: str) -> None:
        super().__init__(cause)
        self.number = number


def run_in_processes(
    work: Callable[[int], Any], numbers: Sequence[int], workers: int
) -> Iterator[int]:
    """Call work(number) for every number in `workers` fresh processes; yields each number when it
    is done.

    `work` is sent to the processes once. Raises WorkFailed at the first failure; the others are
    stopped."""
    context = multiprocessing.get_context("spawn")
    todo, busy = deque(numbers), dict[Connection, int]()
    processes: dict[Connection, BaseProcess] = {}
    try:
        for _ in range(min(workers, len(todo))):
            ours, theirs = context.Pipe()
            process: BaseProcess = context.Process(
                target=_worker, args=(work, theirs, os.getpid()), daemon=True
            )
            process.start()
            theirs.close()
            processes[ours] = process
            _give(ours, todo, busy)
        while busy:
            for connection in wait(list(busy)):
                assert isinstance(connection, Connection)
                number = busy.pop(connection)
                _answer(connection, processes[connection], number)
                if todo:
                    _give(connection, todo, busy)
                yield number
    finally:
        for process in processes.values():
            process.kill()
        for connection, process in processes.items():
            process.join()
            connection.close()


def die_with_parent(parent: int) -> None:
    """Ask the system to kill this process when its parent ends. It dies at once if the parent has
    ended already.
    """
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    if os.getppid() != parent:
        os._exit(1)


def die_with_dvc() -> None:
    """End when the `dvc` that started this stage does: else the stage works on beside the next one
    (faults.md F4).

    DVC starts a stage in the shell of $SHELL, or /bin/sh. Some replace themselves by the command,
    others (dash 0.5.12) stay between, and outlive their dvc: then `dvc` is an ancestor, the first
    that is not of this stage."""
    if "DVC_STAGE" not in os.environ or sys.platform != "linux":
        return
    parent = os.getppid()
    with suppress(OSError):  # of another user, or ended: the check of the parent says so
        dvc = parent
        while dvc != 1 and _is_of_this_stage(dvc):
            dvc = int(_proc(dvc, "stat").rpartition(b")")[2].split()[1])
        if dvc == 1 and b"dvc" not in _proc(1, "cmdline"):
            os._exit(1)  # it has ended already
        if dvc != parent:
            threading.Thread(target=_die_after, args=(os.pidfd_open(dvc),), daemon=True).start()
    die_with_parent(parent)


def _is_of_this_stage(pid: int) -> bool:
    return f"DVC_STAGE={os.environ['DVC_STAGE']}".encode() in _proc(pid, "environ").split(b"\0")


def _proc(pid: int, what: str) -> bytes:
    return Path(f"/proc/{pid}/{what}").read_bytes()


def _die_after(pidfd: int) -> None:
    wait([pidfd])
    os.kill(os.getpid(), signal.SIGKILL)


def describe_error(error: BaseException) -> str:
    """An error in one line, for a message or another process."""
    todo = suggest_remedy(error) if isinstance(error, OSError) else ""
    return f"{type(error).__name__}: {error}{todo}"[:2000]


def _give(connection: Connection, todo: deque[int], busy: dict[Connection, int]) -> None:
    busy[connection] = number = todo.popleft()
    with suppress(BrokenPipeError):  # it died: reading its answer says how
        connection.send(number)


def _answer(connection: Connection, process: BaseProcess, number: int) -> None:
    try:
        error = connection.recv()
    except (EOFError, ConnectionResetError):
        process.join()
        error = f"its worker died ({_cause(process.exitcode)}); finished shards are kept, run the stage again"
    if error:
        raise WorkFailed(number, error)


def _worker(work: Callable[[int], Any], connection: Connection, parent: int) -> None:
    die_with_parent(parent)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent has it too, and stops its workers
    while True:
        number = connection.recv()
        try:
            work(number)
            connection.send(None)
        except Exception as error:
            connection.send(describe_error(error))


def _cause(code: int | None) -> str:
    return signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
