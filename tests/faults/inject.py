"""Faults at the N-th file operation of a process.

Operations are Python's audit events, and those calls that raise none. After SQLite's crash tests:
every operation of a build is once the last one, or fails once, or fails from then on.
"""

import atexit
import errno
import os
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
CHANGES = {
    "os.rename",
    "os.remove",
    "os.mkdir",
    "os.rmdir",
    "os.link",
    "os.symlink",
    "os.chmod",
    "os.truncate",
}
UNNAMED = ("os.fsync", "write", "close")  # their errors say no path
FREES = ("os.remove", "os.rmdir")  # what goes well on a full disk


@dataclass(frozen=True)
class Fault:
    """A fault at operation `at`, counted from 1; 0 means never.

    kill: SIGKILL before it. truncated: SIGKILL after it, if it opens a file, which is then empty.
    partial: SIGKILL before the next operation, or at the end, when half of the file that it opened
    is written. error: it fails with `number`; if `is_lasting`, so does every later one.
    """

    at: int = 0
    mode: Literal["kill", "truncated", "partial", "error"] = "kill"
    number: int = errno.EIO
    is_lasting: bool = False


class Injector:
    """A counter of the operations on files below the working directory, which injects the fault."""

    def __init__(self, fault: Fault) -> None:
        self.fault, self.root = fault, os.getcwd()
        self.operations: list[str] = []
        self.half: str | None = None
        self.is_busy = False

    def install(self) -> "Injector":
        """Count from now on, for the rest of the process."""
        sys.addaudithook(self.hook)
        os.fsync = self.wrapped("os.fsync", os.fsync)
        atexit.register(self.halve)
        return self

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.is_busy:
            return
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & WRITES:
                self.operation("open", path)
        elif event in CHANGES:
            source, *target = arguments if event in ("os.rename", "os.link") else arguments[:1]
            self.operation(event, target[0] if target else source, source)
            self.wrap_parquet()

    def wrapped(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count a function as an operation.

        Its path is the first argument that is one, or the file that a descriptor is open on.
        """

        def call(*arguments: Any, **named: Any) -> Any:
            path = next((item for item in arguments if isinstance(item, int | str | Path)), "")
            self.operation(name, path)
            return function(*arguments, **named)

        return call

    def wrap_parquet(self) -> None:
        """Count the operations of Arrow, which opens files without an audit event."""
        module = sys.modules.get("pyarrow.parquet")
        if module is None or module.ParquetWriter.__init__.__module__ == __name__:
            return
        writer, injector = module.ParquetWriter, self
        start, write, close = writer.__init__, writer.write_table, writer.close

        def started(self: Any, where: Any, *arguments: Any, **named: Any) -> None:
            injector.operation("open", where)
            self.place = where
            start(self, where, *arguments, **named)

        def written(self: Any, *arguments: Any, **named: Any) -> None:
            injector.operation("write", self.place)
            write(self, *arguments, **named)

        def closed(self: Any) -> None:
            if self.is_open:
                injector.operation("close", self.place)
            close(self)

        writer.__init__, writer.write_table, writer.close = started, written, closed

    def operation(self, name: str, path: Any, source: Any = None) -> None:
        self.is_busy = True
        try:
            place = self.place(path)
            if place is None:
                return
            origin = self.place(source) if source is not None else None
            shown = [os.path.relpath(item, self.root) for item in (place, origin) if item]
            self.operations.append(" ".join([name, *dict.fromkeys(shown)]))
            self.strike(name, place)
        finally:
            self.is_busy = False

    def place(self, path: Any) -> str | None:
        """Return the absolute path of a file below the working directory, else None."""
        if isinstance(path, int):
            with suppress(OSError):
                path = os.readlink(f"/proc/self/fd/{path}")
        if not isinstance(path, str | bytes | os.PathLike):
            return None
        place = os.path.abspath(os.fsdecode(path))
        return place if place.startswith(self.root + os.sep) else None

    def strike(self, name: str, place: str) -> None:
        fault, number = self.fault, len(self.operations)
        self.halve()
        if not fault.at or number < fault.at:
            return
        if fault.mode == "error":
            if number == fault.at or (fault.is_lasting and name not in FREES):
                raise OSError(
                    fault.number, os.strerror(fault.number), None if name in UNNAMED else place
                )
        elif number == fault.at:
            if fault.mode == "kill":
                die()
            if name == "open":
                if fault.mode == "truncated":
                    with suppress(OSError), open(place, "wb"):
                        pass
                    die()
                self.half = place
            else:
                die()

    def halve(self) -> None:
        """Leave half of the file whose writing was to be cut short, and die."""
        if self.half is not None:
            with suppress(OSError):
                os.truncate(self.half, os.path.getsize(self.half) // 2)
            die()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)
