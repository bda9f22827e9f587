"""`python -m …` in a process that was forked from one that has imported the libraries already.

So are the processes that it starts: DVC, stages and the commands of pipeline/ take a tenth of a
second to start instead of two. Their own code is imported anew, from the folder of the project.
"""

import gc
import os
import runpy
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from multiprocessing import util
from pathlib import Path
from typing import Any

OURS = ("safelm", "specs", "pipeline")


def command(*words: str) -> None:
    """Run `python -m WORDS` as the leader of a session of its own; never return."""
    os.setsid()
    _run(words)


def _run(words: Sequence[str]) -> None:
    sys.argv = list(words)
    _until_the_end(runpy.run_module, words[0], run_name="__main__", alter_sys=True)


def _until_the_end(function: Callable[..., Any], *arguments: Any, **keywords: Any) -> None:
    """Call a function as the whole of a process, with nothing of ours imported."""
    for name in [name for name in sys.modules if name.partition(".")[0] in OURS]:
        del sys.modules[name]
    subprocess.Popen._execute_child = _fork_python  # type: ignore[attr-defined]
    util.spawnv_passfds = _fork_worker
    sys.excepthook = sys.__excepthook__
    code: Any = 0
    try:
        function(*arguments, **keywords)
    except SystemExit as end:
        code = end.code or 0
        if isinstance(code, str):
            print(code, file=sys.stderr)
            code = 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


_parents_streams: list[Any] = []  # kept, for to forget them is to close their numbers
_execute_child = subprocess.Popen._execute_child  # type: ignore[attr-defined]


def _fork_python(popen: Any, args: Any, executable: Any, preexec_fn: Any, *rest: Any) -> None:
    """Fork where a process would start a Python module, perhaps by a shell; else start it."""
    words = shlex.split(args[-1]) if "-c" in args else list(args)
    if not (Path(words[0]).name.startswith("python") and words[1] == "-m"):
        return _execute_child(popen, args, executable, preexec_fn, *rest)
    cwd, env = rest[2:4]
    pipes = rest[7:13]
    sys.stdout.flush()
    sys.stderr.flush()
    popen.pid = os.fork()
    if not popen.pid:
        try:
            _forget(keep=pipes)
            _take_streams((pipes[0], pipes[3], pipes[5]))
            if cwd:
                os.chdir(cwd)
            if env is not None:
                os.environ.clear()
                os.environ.update(env)
            if preexec_fn:
                preexec_fn()
            _run(words[2:])
        finally:
            os._exit(1)
    popen._child_created = True
    popen._close_pipe_fds(*pipes)


def _fork_worker(path: Any, args: Sequence[Any], passfds: Sequence[int]) -> int:
    """Fork where multiprocessing would start a Python that runs the text behind -c."""
    sys.stdout.flush()
    sys.stderr.flush()
    pid = os.fork()
    if not pid:
        try:
            _forget(keep=passfds)
            _take_streams((-1, -1, -1))
            words = [os.fsdecode(word) for word in args]
            sys.argv = ["-c", *words[words.index("-c") + 2 :]]
            _until_the_end(exec, words[words.index("-c") + 1], {"__name__": "__main__"})
        finally:
            os._exit(1)
    return pid


def _forget(keep: Iterable[int]) -> None:
    """Let go of what the parent has open, such as its locks."""
    gc.freeze()  # nothing of the parent's is ever closed here by its number
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in [int(name) for name in os.listdir("/proc/self/fd")]:
        if number > 2 and number not in (nothing, *keep):
            os.dup2(nothing, number)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def _take_streams(pipes: Sequence[int]) -> None:
    for number, pipe in enumerate(pipes):
        if pipe not in (-1, number):
            os.dup2(pipe, number)
    _parents_streams.extend([sys.stdin, sys.stdout, sys.stderr])
    streams = [os.fdopen(number, mode) for number, mode in enumerate("rww")]
    sys.stdin, sys.stdout, sys.stderr = streams
