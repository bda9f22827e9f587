"""Lines of a stream of bytes with their offsets, in bounded memory."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class SkippedBytes:
    """Bytes that are too many to keep: their number and digest."""

    def __init__(self, *parts: bytes) -> None:
        self.size = 0
        self.digest = hashlib.sha256()
        for part in parts:
            self.add(part)

    def add(self, part: bytes) -> None:
        """Count more bytes."""
        self.size += len(part)
        self.digest.update(part)


class Line(NamedTuple):
    """A line without its line feed; the last line of a stream may not have ended."""

    offset: int
    content: bytes | SkippedBytes
    has_ended: bool


def lines(blocks: Iterable[bytes], limit: int) -> Iterator[Line]:
    """Yield every line of a stream; of a line above `limit` bytes only size and digest.

    The last line, often empty, has not ended.
    """
    offset = 0
    rest = b""
    skipped: SkippedBytes | None = None
    for block in blocks:
        if skipped is not None:
            head, line_feed, block = block.partition(b"\n")
            skipped.add(head)
            if not line_feed:
                continue
            yield Line(offset, skipped, True)
            offset += skipped.size + 1
            skipped = None
        *whole, rest = (rest + block).split(b"\n")
        for content in whole:
            kept = content if len(content) <= limit else SkippedBytes(content)
            yield Line(offset, kept, True)
            offset += len(content) + 1
        if len(rest) > limit:
            skipped = SkippedBytes(rest)
            rest = b""
    yield Line(offset, rest if skipped is None else skipped, False)
