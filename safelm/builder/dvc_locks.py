"""DVC's own locks: who holds them, and which of their holders have ended.

A process of DVC locks .dvc/tmp/lock for a moment, by the kernel, and writes its number into it.
For as long as a stage runs, .dvc/tmp/rwlock names the process with what it reads and writes. DVC
trusts that file while any process has the number: a zombie, which a container without an init
keeps for ever, or a program that was given the number of a dead one.
"""

import fcntl
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from safelm.builder.supervision import is_alive, parent_of

FOLDER = Path(".dvc/tmp")
LOCK = FOLDER / "lock"
RWLOCK = FOLDER / "rwlock"
GUARD = FOLDER / "rwlock.lock"  # held while rwlock is written
# What DVC says when another process holds one of them, and a stage that another process builds.
BUSY = re.compile(r"is busy, it is being blocked by|Unable to acquire lock|is building it since")
TRIES = 20  # while no process can be named that holds one
PAUSE = 0.5  # seconds between two tries
Holder = dict[str, Any]  # its pid and its command line (cmd)


@contextmanager
def try_lock(path: Path) -> Iterator[bool]:
    """Hold a lock file of DVC, so that DVC writes nothing that it guards; yield False if taken."""
    # DVC makes the folder at its first command, so before that nobody holds a lock.
    if not path.parent.is_dir():
        yield True
        return
    with path.open("a+b") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            yield False
            return
        yield True


def holders(values: Any) -> Iterator[Holder]:
    """Yield the processes of a rwlock: one writes a path, any number read one.

    Raises:
        ValueError, TypeError, KeyError or AttributeError: it is damaged.
    """
    if values.keys() - {"read", "write"}:
        raise ValueError
    found = list(values.get("write", {}).values())
    for readers in values.get("read", {}).values():
        found += readers
    for holder in found:
        if [type(holder["pid"]), type(holder["cmd"]), len(holder)] != [int, str, 2]:
            raise ValueError
        yield holder


def ended_reason(holder: Holder) -> str:
    """Say why DVC would wait for a process that has ended; "" if it does not, or rightly."""
    pid = holder["pid"]
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""  # dead, which DVC sees by itself
    if not is_alive(pid):
        return f"its process {pid} is a zombie, for which DVC waits"
    # DVC notes sys.argv, which differs from the command line in its first words alone.
    is_same = holder["cmd"].split()[-1:] == " ".join(words).split()[-1:]
    return "" if is_same else f"its number {pid} belongs to another program now"


def remove_ended() -> list[str]:
    """Remove processes that have ended from DVC's rwlock; return a sentence about each."""
    with try_lock(GUARD) as is_held:
        if not is_held or not RWLOCK.is_file():
            return []
        removed = dict[str, str]()
        try:
            values = json.loads(RWLOCK.read_bytes())
            for holder in list(holders(values)):
                if reason := ended_reason(holder):
                    _remove(holder, values)
                    removed[reason] = f"`{_shortened(holder['cmd'])}` has ended: {reason}"
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            # DVC would refuse to work. What a living process has in there was lost already.
            values = {}
            removed = {"": "a process was killed while it wrote to it"}
        if removed:
            RWLOCK.write_text(json.dumps(values), encoding="utf-8")
        return list(removed.values())


def _remove(ended: Holder, values: Any) -> None:
    writers = values.get("write", {})
    for path in [path for path, holder in writers.items() if holder == ended]:
        del writers[path]
    readers = values.get("read", {})
    for path in list(readers):
        readers[path] = [holder for holder in readers[path] if holder != ended]
        if not readers[path]:
            del readers[path]


class Patience:
    """Waits for other processes of DVC, and names each once."""

    def __init__(self) -> None:
        self.named = -1
        self.tries = 0

    def pause(self) -> bool:
        """Pause before another try; return False where none helps, for nobody holds a lock."""
        remove_ended()
        pid = self.name_holder()
        self.tries = 0 if pid else self.tries + 1
        time.sleep(PAUSE)
        return self.tries < TRIES

    def name_holder(self) -> int:
        """Print who holds a lock, unless it is a child of this process; return its number, or 0."""
        found = list(_holding_processes())
        others = [(pid, command) for pid, command in found if parent_of(pid) != os.getpid()]
        for pid, command in others[:1]:
            if pid != self.named:
                who = f"process {pid} (`{_shortened(command)}`)"
                words = f"DVC: {who} holds its lock; waiting until it ends"
                print(words, file=sys.stderr, flush=True)
                self.named = pid
        return next((pid for pid, _ in [*others, *found]), 0)


def wait_until_idle() -> int:
    """Wait until no command of DVC runs; return a number that the next command changes.

    A stage that DVC runs does not count.
    """
    patience = Patience()
    while True:
        with try_lock(LOCK) as is_held:
            if is_held:
                # Each process of DVC writes its number into the file.
                return LOCK.stat().st_mtime_ns if LOCK.exists() else 0
        patience.name_holder()
        time.sleep(PAUSE)


def _holding_processes() -> Iterator[tuple[int, str]]:
    """Yield the living processes that hold one of DVC's locks, with their command lines."""
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        for holder in holders(json.loads(RWLOCK.read_bytes())):
            if is_alive(holder["pid"]):
                yield holder["pid"], holder["cmd"]
    with suppress(OSError, ValueError), try_lock(LOCK) as is_held:
        if not is_held:
            pid = int(LOCK.read_text())
            yield pid, Path(f"/proc/{pid}/cmdline").read_text().replace("\0", " ")


def _shortened(command: str) -> str:
    """Leave the folders out of a command line."""
    return " ".join(word.rpartition("/")[2] for word in command.split())
