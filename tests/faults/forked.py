"""Stages in a process forked from one that has imported the libraries already.

A case takes a tenth of a second instead of two.
"""

import importlib
import json
import multiprocessing
import os
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, Self

from tests.faults.inject import Fault, Injector
from tests.faults.toy import PATIENCE, ROOT, Toy

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["tests.faults.preload"])
MARK = "\0operations: "
STAGES = ("ingest web", "clean web", "score web", "tag unsafe", "tokenizer")


@dataclass(frozen=True)
class Result:
    """The end of a process: its exit code (below 0: the signal), output and file operations."""

    code: int
    text: str
    operations: list[str] = field(default_factory=list)


def run(
    root: Path,
    function: Callable[..., Any],
    *arguments: Any,
    fault: Fault | None = None,
    **environment: str,
) -> Result:
    """Run a function of a module in a process of its own, in the folder `root`."""
    return Forked.start(root, function, *arguments, fault=fault, **environment).wait()


@dataclass
class Forked:
    """A process that runs a function and prints to a file."""

    process: BaseProcess
    log: Path

    @classmethod
    def start(
        cls,
        root: Path,
        function: Callable[..., Any],
        *arguments: Any,
        fault: Fault | None = None,
        **environment: str,
    ) -> Self:
        """Start a process and do not wait."""
        descriptor, name = tempfile.mkstemp(prefix="forked")  # not on the disk that a test fills
        os.close(descriptor)
        process = CONTEXT.Process(
            target=_child, args=(root, Path(name), function, arguments, fault, environment)
        )
        process.start()
        return cls(process, Path(name))

    def wait(self) -> Result:
        """Wait for the result; kill a process that hangs, and fail the test."""
        self.process.join(PATIENCE)
        text, _, operations = self.log.read_text(encoding="utf-8", errors="replace").partition(MARK)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"hangs: {text[-3000:]}")
        self.log.unlink()
        return Result(self.process.exitcode, text, json.loads(operations or "[]"))


def _child(
    root: Path,
    log: Path,
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    fault: Fault | None,
    environment: dict[str, str],
) -> None:
    os.chdir(root)
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(file, 1)
    os.dup2(file, 2)
    sys.stdout, sys.stderr = os.fdopen(1, "w"), os.fdopen(2, "w")
    os.environ.update({"SAFELM_WORKERS": "1", **environment})
    sys.path.insert(0, str(root))
    sys.dont_write_bytecode = (
        True  # Python 3.11 takes a short write for a whole one, and cannot import it later
    )
    injector = Injector(fault).install() if fault else None
    try:
        function(*arguments)
        code = 0
    except BaseException:
        if injector:
            injector.is_busy = True
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    if injector:
        os.write(file, (MARK + json.dumps(injector.operations)).encode())
    os._exit(code)


def stages(*commands: str) -> None:
    """Run stages of the small project, one after another."""
    for command in commands:
        name, *arguments = command.split()
        sys.argv = [name, *arguments]
        importlib.import_module(f"pipeline.{name}").main()


def build(toy: Toy, *commands: str, fault: Fault | None = None, **environment: str) -> Result:
    """Run stages of a project without DVC, in a process of their own."""
    return run(toy.root, stages, *(commands or STAGES), fault=fault, **environment)


__all__ = ["ROOT", "STAGES", "Result", "build", "run", "stages"]
