"""Run DVC's command line, and wait for other processes that hold its locks."""

import os
import subprocess
import sys
from pathlib import Path

from safelm.builder.dvc_locks import BUSY, Patience

DVC = [sys.executable, "-m", "dvc"]
TAIL = 12  # lines of DVC's output that an error shows


class DvcError(RuntimeError):
    """A command of DVC failed; the message holds the end of its output."""


def run_dvc(*arguments: str) -> str:
    """Run a command of DVC and return what it printed.

    Raises:
        DvcError: the command failed.
    """
    done = try_dvc(*arguments)
    if done.returncode:
        lines = (done.stdout + done.stderr).strip().splitlines()[-TAIL:]
        command = f"dvc {' '.join(arguments)}"
        raise DvcError(f"{command} failed (exit code {done.returncode}):\n" + "\n".join(lines))
    return done.stdout


def try_dvc(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a DVC command that may fail; wait while other processes hold DVC's locks.

    dvc.yaml starts stages as `python`, so the folder of this interpreter comes first in PATH.
    """
    path = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    environment = {**os.environ, "PATH": os.pathsep.join(path)}
    patience = Patience()
    while True:
        done = subprocess.run([*DVC, *arguments], capture_output=True, text=True, env=environment)
        is_busy = done.returncode and BUSY.search(done.stdout + done.stderr)
        if not (is_busy and patience.pause()):
            return done


def declared_stages() -> set[str]:
    """List the stages of dvc.yaml; a row removed from params.yaml has no stage any more."""
    return set(run_dvc("stage", "list", "--all", "--name-only").split())
