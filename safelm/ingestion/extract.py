"""Text from HTML in bounded time: the extractor runs in a child process that can be stopped."""

import json
import os
import subprocess
import sys
from functools import partial
from signal import SIGKILL
from threading import Timer
from typing import Self

from safelm.builder.supervision import die_with_parent
from safelm.ingestion import extract_worker
from safelm.ingestion.errors import ExtractionError

# No page of a megabyte that people made took two seconds.
SECONDS = 60.0
# Unlike the limit on time, this one rejects the same pages on every machine.
TAGS = 100_000
# The child imports its libraries, perhaps on a busy machine.
START_SECONDS = 300.0
LIBRARIES = ("trafilatura", "resiliparse", "lxml", "justext", "faust-cchardet")


class TextExtractor:
    """Extract the text of pages in a child process, which starts with the first page.

    `extractor` is one of EXTRACTORS of safelm/ingestion/extract_worker.py.

    A page that takes too long ends the child, and the next page starts another. DataTrove's
    ExtractorSandbox does the same through multiprocessing, which a worker of the executor may not
    use.
    """

    def __init__(self, extractor: str) -> None:
        self.extractor = extractor
        self.seconds = SECONDS
        self.child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def __call__(self, html: str) -> extract_worker.Page:
        """Return `text` (None or empty if a page has none), `title` and `url` of a page.

        Raises ExtractionError if the page has too many tags, takes too long or breaks the child.
        """
        if html.count("<") > TAGS:
            raise ExtractionError("too_many_tags")
        if not html:
            return {}
        if self.child is None:
            self._start()
        reply = self._request(html, self.seconds)
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
        # -P, because html.py in the script's folder would hide Python's own module.
        command = [sys.executable, "-P", extract_worker.__file__, self.extractor]
        self.child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            # The order of a set must not change what is extracted.
            env={**os.environ, "PYTHONHASHSEED": "0"},
            preexec_fn=partial(die_with_parent, os.getpid()),
        )
        try:
            # The child answers once without a page, when it is ready.
            self._request("", START_SECONDS)
        except ExtractionError as error:
            raise RuntimeError(
                f"{extract_worker.__name__}: did not start; "
                f"run `python {' '.join(command[1:])}` to see why"
            ) from error

    def _request(self, html: str, seconds: float) -> extract_worker.Page:
        """Return the answer to a page; after so many seconds without one, the child is killed."""
        child = self.child
        assert child and child.stdin and child.stdout
        timer = Timer(seconds, child.kill)
        timer.start()
        try:
            if html:
                child.stdin.write(json.dumps(html).encode() + b"\n")
                child.stdin.flush()
            line = child.stdout.readline()
        except BrokenPipeError:
            line = b""
        timer.cancel()
        timer.join()
        if line.endswith(b"\n"):
            if child.poll() is not None:
                # The time ran out right after the answer.
                self.stop()
            return json.loads(line)
        is_slow = child.wait() == -SIGKILL
        self.stop()
        raise ExtractionError("too_slow" if is_slow else "extraction_failed")
