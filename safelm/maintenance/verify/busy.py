"""No object may be moved or collected under the feet of a build: all stages are locked while that
happens.
"""

import fcntl
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from safelm.builder.paths import scratch


class Busy(RuntimeError):
    """A build runs; the message names its stage and process."""


@contextmanager
def all_stages_locked() -> Iterator[None]:
    """Hold the lock of every stage that was ever built here. Raises Busy when a build has one of
    them.
    """
    with ExitStack() as stack:
        folder = scratch("locks")
        for path in sorted(folder.iterdir()) if folder.is_dir() else []:
            file = stack.enter_context(path.open("a+"))
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                file.seek(0)
                raise Busy(
                    f"process {file.read().strip()} is building {path.name}; wait for it or stop it, then try again"
                ) from None
        yield
