"""Text from HTML in bounded time: trafilatura runs in a child process, which is stopped when it
takes too long.
"""

import json
import os
import select
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from safelm.builder.supervision import die_with_parent
from safelm.ingestion import extract_worker as extractor

SECONDS = (
    60.0  # no page of a megabyte that people made took two; the limit on tags keeps machines agreed
)
START = 300.0  # imports, on a machine that is busy
TAGS = 100_000
LIBRARIES = ("trafilatura", "lxml", "justext", "faust-cchardet", "warcio")


class ExtractionError(Exception):
    """A page that gives no text for a reason other than having none; `reason` is its name in the
    quarantine.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class TextExtractor:
    """Ask the child for the text of pages; it starts with the first one, and anew after one that
    had to be stopped.

    DataTrove's ExtractorSandbox does likewise, but through multiprocessing, which a worker of the
    executor may not use."""

    def __init__(self, seconds: float = SECONDS) -> None:
        self.seconds = seconds
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def __call__(self, html: str) -> dict[str, Any]:
        """`text` (None or empty where a page has none), `title` and `url`. Raises ExtractionError."""
        if html.count("<") > TAGS:
            raise ExtractionError("too_many_tags")
        if self.child is None:
            self._start()
        data = html.encode("utf-8", "replace")
        if not data:
            return {}
        reply = self._ask(len(data).to_bytes(8, "big") + data, self.seconds)
        if "error" in reply:
            raise ExtractionError("extraction_failed")
        return reply

    def stop(self) -> None:
        """End the child."""
        if self.child is not None:
            self.child.kill()
            self.child.communicate()
            self.child = None

    def _start(self) -> None:
        # -P: the folder of the script, where a module is called html, must not come before Python's
        # own modules
        command = [sys.executable, "-P", str(Path(extractor.__file__))]
        environment = {**os.environ, "PYTHONHASHSEED": "0"}
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        try:
            self._ask(b"", START)
        except ExtractionError as error:
            raise RuntimeError(
                f"{extractor.__name__} did not start; run `python -P {command[-1]}` to see why"
            ) from error

    def _ask(self, message: bytes, seconds: float) -> dict[str, Any]:
        assert self.child and self.child.stdin
        deadline = time.monotonic() + seconds
        try:
            self.child.stdin.write(message)
            self.child.stdin.flush()
            size = int.from_bytes(self._read(8, deadline), "big")
            return json.loads(self._read(size, deadline))
        except (BrokenPipeError, EOFError) as error:
            self.stop()
            raise ExtractionError("extraction_failed") from error
        except TimeoutError as error:
            self.stop()
            raise ExtractionError("too_slow") from error

    def _read(self, size: int, deadline: float) -> bytes:
        assert self.child and self.child.stdout
        poll = select.poll()
        poll.register(self.child.stdout, select.POLLIN)
        pieces = []
        while size:
            if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
                raise TimeoutError
            piece = os.read(self.child.stdout.fileno(), min(size, 1 << 20))
            if not piece:
                raise EOFError
            pieces.append(piece)
            size -= len(piece)
        return b"".join(pieces)
