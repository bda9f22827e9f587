"""Store of language model answers by key, so that a rerun repeats no request.

An append-only file has a digest and a JSON object on each line: an answer, or a mark on an earlier
one. A file may be deleted at any time; its requests are then repeated.
"""

import fcntl
import json
import os
from collections.abc import Iterable
from hashlib import blake2b
from pathlib import Path
from typing import Any, Self

from loguru import logger

from safelm.llm.engine import Answer

Row = dict[str, Any]


class AnswerStore:
    """The answers of one model for one shard, in a file that one process opens at a time."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answers: dict[str, Answer] = {}
        self.rejected: set[str] = set()
        self.damaged = 0

    def __enter__(self) -> Self:
        """Open and read the file; wait while another process has it open."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        data = self.path.read_bytes()
        # A process that was killed leaves at most a torn last line: it is cut off.
        whole = data.rfind(b"\n") + 1
        torn = len(data) - whole
        if torn:
            os.ftruncate(self.file, whole)
        for line in data[:whole].splitlines():
            self._load(line)
        if self.damaged or torn:
            logger.warning(
                f"{self.path.name}: {self.damaged} damaged lines, {torn} bytes of a torn one"
            )
        # If no answer at all was usable, the server was at fault, and may have been repaired.
        if self.rejected.issuperset(self.answers):
            self.forget_rejected()
        return self

    def __exit__(self, *error: Any) -> None:
        """Sync and close the file, which releases the lock."""
        os.fsync(self.file)
        os.close(self.file)

    def _load(self, line: bytes) -> None:
        # A line that was damaged later is skipped, so its request is repeated.
        digest, _, body = line.partition(b" ")
        if digest != _digest(body):
            self.damaged += 1
            return
        try:
            self._apply(json.loads(body))
        except (ValueError, KeyError, TypeError):
            self.damaged += 1

    def _apply(self, row: Row) -> None:
        key = row["key"]
        if "mark" not in row:
            self.answers[key] = Answer(row["text"], row["finish"])
        elif row["mark"] == "rejected":
            self.rejected.add(key)
        else:
            self.rejected.discard(key)
            self.answers.pop(key, None)

    def get(self, key: str) -> Answer | None:
        """Return the stored answer, if there is one."""
        return self.answers.get(key)

    def put(self, key: str, answer: Answer) -> None:
        """Store an answer."""
        self._write({"key": key, "text": answer.text, "finish": answer.finish})

    def reject(self, keys: Iterable[str]) -> None:
        """Mark answers as unusable; they are given out again until they are forgotten."""
        for key in set(keys).intersection(self.answers) - self.rejected:
            self._write({"key": key, "mark": "rejected"})

    def forget_rejected(self) -> int:
        """Forget the answers that were marked, so that they are requested again; count them."""
        keys = sorted(self.rejected)
        for key in keys:
            self._write({"key": key, "mark": "forgotten"})
        return len(keys)

    def _write(self, row: Row) -> None:
        # In one write, without a buffer: the answer outlives the process if it is killed next.
        body = json.dumps(row).encode()
        os.write(self.file, _digest(body) + b" " + body + b"\n")
        self._apply(row)


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=8).hexdigest().encode()
