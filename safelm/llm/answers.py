"""The answers that language models gave, kept by key in an append-only file, so that nothing is
asked twice.

A line is a digest and JSON. A killed process leaves at most a torn last line, which the next one
cuts off; a line that was damaged later does not match its digest, and what it answered is asked
again. Texts of answers are data: they stay in this folder, which may be deleted at the cost of
asking again."""

import fcntl
import json
import os
from hashlib import blake2b
from pathlib import Path
from types import TracebackType
from typing import Self

from loguru import logger

from safelm.llm.request import Answer


class Answers:
    """The file of one shard's answers from one model. One process has it open at a time; a second
    one waits.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.found: dict[str, Answer] = {}
        self.damaged = 0

    def __enter__(self) -> Self:
        """Open and read; a torn end is cut off."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.file = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        fcntl.flock(self.file, fcntl.LOCK_EX)
        data = self.path.read_bytes()
        whole = data.rfind(b"\n") + 1
        if whole < len(data):
            os.ftruncate(self.file, whole)
        for line in data[:whole].splitlines():
            self._learn(line)
        if self.damaged or whole < len(data):
            logger.warning(
                f"{self.path.name}: {self.damaged} damaged lines, {len(data) - whole} bytes of a torn one"
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        """Sync and close; the lock goes with it."""
        os.fsync(self.file)
        os.close(self.file)

    def _learn(self, line: bytes) -> None:
        try:
            digest, _, body = line.partition(b" ")
            if digest != _digest(body):
                raise ValueError("digest")
            row = json.loads(body)
            self.found[row["key"]] = Answer(row["text"], row["finish"])
        except (ValueError, KeyError, TypeError):
            self.damaged += 1

    def get(self, key: str) -> Answer | None:
        """What was answered, if it was."""
        return self.found.get(key)

    def put(self, key: str, answer: Answer) -> None:
        """Keep an answer, at once: one write, so that it outlives a process that is killed behind
        it.
        """
        body = json.dumps({"key": key, "text": answer.text, "finish": answer.finish}).encode()
        os.write(self.file, _digest(body) + b" " + body + b"\n")
        self.found[key] = answer


def _digest(body: bytes) -> bytes:
    return blake2b(body, digest_size=8).hexdigest().encode()
