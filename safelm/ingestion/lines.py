"""Lines of a stream of bytes with their offsets, in bounded memory."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class SkippedBytes:
    """The number and the digest of bytes that are too many to keep."""

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
    """A line without its line feed; `has_ended` is false for the last one, which has none."""

    offset: int
    content: bytes | SkippedBytes
    has_ended: bool


def lines(blocks: Iterable[bytes], limit: int) -> Iterator[Line]:
    """Yield every line of a stream; of lines above `limit` bytes, only the size and digest.

    The bytes after the last line feed, often none, are a line that has not ended.
    """
    offset = 0
    rest = b""
    skipped: SkippedBytes | None = None
    for block in blocks:
        # A line above the limit goes on in this block.
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
        # Memory stays bounded: the beginning of a long line is not kept.
        if len(rest) > limit:
            skipped = SkippedBytes(rest)
            rest = b""
    yield Line(offset, rest if skipped is None else skipped, False)
