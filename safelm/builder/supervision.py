"""Processes that end with their parent, so that a killed build leaves none behind."""

import ctypes
import os
import signal
import sys
import threading
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path

PR_SET_PDEATHSIG = 1  # linux/prctl.h
# Loaded here: a child of a process with threads must not load it between fork and exec.
_LIBC = ctypes.CDLL(None)


def die_with_parent(parent: int, end: signal.Signals = signal.SIGKILL) -> None:
    """Have the kernel send a signal to this process when its parent ends.

    Call it first in a new process, or between fork and exec: `preexec_fn=partial(die_with_parent,
    os.getpid())`. A process whose `parent` has already ended exits at once.
    """
    # The kernel sends it when the thread that forked ends, so only main threads start processes.
    if sys.platform == "linux":
        _LIBC.prctl(PR_SET_PDEATHSIG, end)
    if os.getppid() != parent:
        os._exit(1)  # not sys.exit, which would run what the parent registered with atexit


def die_with_dvc() -> None:
    """End this stage when the `dvc` that started it ends.

    Otherwise it would work on beside the next run of the same stage. DVC starts a
    stage in the shell of $SHELL, or /bin/sh. Some shells replace themselves by the command. Others
    (dash 0.5.12) stay in between and outlive their dvc: then `dvc` is the first ancestor that is
    not of this stage.
    """
    if "DVC_STAGE" not in os.environ or sys.platform != "linux":
        return
    parent = os.getppid()
    # Of another user, or ended: the check of the parent says so.
    with suppress(OSError):
        dvc = parent
        while dvc != 1 and _is_of_this_stage(dvc):
            dvc = parent_of(dvc)
        if dvc == 1 and b"dvc" not in _read_proc(1, "cmdline"):
            os._exit(1)  # dvc has ended already
        if dvc != parent:
            # A pidfd and not the number, which a later process may be given.
            watcher = threading.Thread(target=_die_after, args=(os.pidfd_open(dvc),), daemon=True)
            watcher.start()
    die_with_parent(parent)


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie, which only waits to be reaped, does not."""
    try:
        # Signal 0 is not delivered: it only tests whether the process exists.
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True  # of another user
    with suppress(OSError):
        return _stat_fields(pid)[0] != b"Z"
    return True


def _is_of_this_stage(pid: int) -> bool:
    variable = f"DVC_STAGE={os.environ['DVC_STAGE']}".encode()
    return variable in _read_proc(pid, "environ").split(b"\0")


def parent_of(pid: int) -> int:
    """Return the process that started another one."""
    return int(_stat_fields(pid)[1])


def _stat_fields(pid: int) -> list[bytes]:
    """Return the fields after the command of /proc/<pid>/stat: state, parent and more."""
    # The command before it, in parentheses, may contain spaces and parentheses itself.
    return _read_proc(pid, "stat").rpartition(b")")[2].split()


def _read_proc(pid: int, name: str) -> bytes:
    return Path(f"/proc/{pid}/{name}").read_bytes()


def _die_after(pidfd: int) -> None:
    wait([pidfd])
    os.kill(os.getpid(), signal.SIGKILL)
