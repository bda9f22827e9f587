"""A pool of supervised worker processes: one that dies is an error at once, and none is orphaned.

Python's own pool waits for ever for a worker that the system killed, and leaks a
manager process.
"""

import multiprocessing
import os
import signal
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from safelm.builder.files import describe_error
from safelm.builder.supervision import die_with_parent

Work = Callable[[int], object]
# Set in a worker: its number, by which it takes one of several GPUs.
WORKER = "SAFELM_WORKER_NUMBER"


class WorkFailed(RuntimeError):
    """An item of work failed; `number` says which, the message why."""

    def __init__(self, number: int, cause: str) -> None:
        super().__init__(cause)
        self.number = number


def run_in_processes(work: Work, numbers: Sequence[int], workers: int) -> Iterator[int]:
    """Call work(number) for every number in fresh processes; yield each number when it is done.

    `work` is sent to each of at most `workers` processes once. The first failure stops the others.

    Raises:
        WorkFailed: a call raised an error, or its process died.
    """
    pool = _Pool(work, deque(numbers))
    try:
        for _ in range(min(workers, len(numbers))):
            pool.start_worker()
        while pool.busy:
            yield from pool.finished()
    finally:
        pool.stop()


class _Pool:
    """Worker processes by the connection to each, and the numbers that they work on."""

    def __init__(self, work: Work, waiting: deque[int]) -> None:
        self.work = work
        self.waiting = waiting
        self.busy: dict[Connection, int] = {}
        self.processes: dict[Connection, BaseProcess] = {}

    def start_worker(self) -> None:
        # Not forked: a lock that a thread of this process holds would stay locked in the child.
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        arguments = (self.work, theirs, os.getpid(), len(self.processes))
        process = context.Process(target=_run_worker, args=arguments, daemon=True)
        process.start()
        # While this process had the other end open too, a dead worker would not end the pipe.
        theirs.close()
        self.processes[ours] = process
        self._send_next(ours)

    def finished(self) -> Iterator[int]:
        """Wait for results; yield their numbers, and give each worker its next one."""
        for connection in wait(list(self.busy)):
            assert isinstance(connection, Connection)
            number = self.busy.pop(connection)
            self._check_result(connection, number)
            if self.waiting:
                self._send_next(connection)
            yield number

    def stop(self) -> None:
        # Killed, not asked to end: what they were making is in temporary directories.
        for process in self.processes.values():
            process.kill()
        for connection, process in self.processes.items():
            process.join()
            connection.close()

    def _send_next(self, connection: Connection) -> None:
        number = self.waiting.popleft()
        self.busy[connection] = number
        # The pipe of a worker that died is broken: reading its result says how it died.
        with suppress(BrokenPipeError):
            connection.send(number)

    def _check_result(self, connection: Connection, number: int) -> None:
        try:
            error = connection.recv()
        except (EOFError, ConnectionResetError):
            process = self.processes[connection]
            # The pipe breaks before the exit code is known.
            process.join()
            cause = describe_exit(process.exitcode)
            error = f"its worker died ({cause}); finished shards are kept, run the stage again"
        if error:
            raise WorkFailed(number, error)


def worker_index() -> int:
    """Return the number of this worker, from 0 on; 0 outside of a pool."""
    return int(os.environ.get(WORKER) or 0)


def _run_worker(work: Work, connection: Connection, parent: int, index: int) -> None:
    die_with_parent(parent)
    os.environ[WORKER] = str(index)
    # Ctrl-C reaches the parent too, which stops its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        number = connection.recv()
        try:
            work(number)
            connection.send(None)
        except Exception as error:
            connection.send(describe_error(error))


def describe_exit(code: int | None) -> str:
    """Name the end of a process: its signal, or its exit code."""
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
