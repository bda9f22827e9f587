"""When things run: one small file for each stage of dvc.yaml, called as `python -m
pipeline.<stage>`.

An error of our own (its class stands in safelm or specs) is written for people and is shown as its
message alone, one of the disk with its remedy; every other error is a mistake in the code and keeps
its traceback."""

import sys
from types import TracebackType

from safelm.builder.files import REMEDIES
from safelm.builder.workers import describe_error, die_with_dvc


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        print("stopped; what was finished is kept", file=sys.stderr)
    elif isinstance(error, OSError) and error.errno in REMEDIES:
        print(describe_error(error), file=sys.stderr)
    elif kind.__module__.partition(".")[0] in ("safelm", "specs"):
        print(error, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell
die_with_dvc()
