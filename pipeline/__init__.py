"""When things run: one small file for each stage of dvc.yaml, called as `python -m pipeline.<stage>`.

An error of our own (its class stands in safelm or specs) is written for people and is shown as its message alone; every
other error is a mistake in the code and keeps its traceback.
"""

import sys
from types import TracebackType

from safelm.supervise import die_with_dvc


def _tell(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if kind.__module__.partition(".")[0] in ("safelm", "specs"):
        print(error, file=sys.stderr)
    else:
        sys.__excepthook__(kind, error, trace)


sys.excepthook = _tell
die_with_dvc()
