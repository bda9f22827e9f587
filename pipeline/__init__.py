"""The stages of dvc.yaml, a module each, and the command line.

DVC calls a stage as `python -m pipeline.<stage>`. An exception class of safelm or specs is a
message for the user: it is shown without a traceback, and so is an error of the disk, with its
remedy. Any other exception is a mistake in the code and keeps its traceback.
"""

import gc
import resource
import shutil
import sys
from types import TracebackType

# Python 3.11 takes byte code that a full disk or `ulimit -f` has cut for whole, and could import
# the module no more.
ROOM = 1 << 20
if (
    0 <= resource.getrlimit(resource.RLIMIT_FSIZE)[0] < ROOM
    or shutil.disk_usage(__path__[0]).free < ROOM
):
    sys.dont_write_bytecode = True

from safelm.builder.environment import fix_instructions  # noqa: E402
from safelm.builder.files import REMEDIES, describe_error  # noqa: E402
from safelm.builder.supervision import die_with_dvc  # noqa: E402

OURS = ("safelm", "specs", "pipeline")


def message(error: BaseException) -> str | None:
    """Say what the user can do about an error; None for a mistake in the code."""
    if isinstance(error, KeyboardInterrupt):
        return "stopped; finished work is kept, run the same command to go on"
    if isinstance(error, OSError) and error.errno in REMEDIES:
        return describe_error(error)
    if type(error).__module__.partition(".")[0] in OURS:
        return str(error)
    return None


def _show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    text = message(error)
    if text is None:
        sys.__excepthook__(kind, error, trace)
    else:
        print(text, file=sys.stderr)


# Before a stage imports numpy or torch, which read these settings when they are loaded.
fix_instructions()
sys.excepthook = _show
die_with_dvc()
# Importing torch and transformers makes millions of objects. The collector would walk over them
# hundreds of times, a tenth of the time that a stage takes to start.
gc.set_threshold(200_000, 20, 100)
