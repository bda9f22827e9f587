"""Lines of a stream of bytes, with their offsets, in bounded memory."""

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple


class SkippedBytes:
    """Bytes that are too many to keep: their number and digest."""

    def __init__(self, *pieces: bytes) -> None:
        self.size, self.digest = 0, hashlib.sha256()
        for piece in pieces:
            self.add(piece)

    def add(self, piece: bytes) -> None:
        """Count some more."""
        self.size += len(piece)
        self.digest.update(piece)


class Line(NamedTuple):
    """A line without its line feed; the last of a stream may not have ended."""

    offset: int
    content: bytes | SkippedBytes
    has_ended: bool


def lines(blocks: Iterable[bytes], limit: int) -> Iterator[Line]:
    """Every line; of one above `limit` bytes only size and digest. The last one, often empty, has
    not ended.
    """
    offset, rest = 0, b""
    skipped: SkippedBytes | None = None
    for block in blocks:
        if skipped is not None:
            head, found, block = block.partition(b"\n")
            skipped.add(head)
            if not found:
                continue
            yield Line(offset, skipped, True)
            offset, skipped = offset + skipped.size + 1, None
        *whole, rest = (rest + block).split(b"\n")
        for content in whole:
            yield Line(offset, content if len(content) <= limit else SkippedBytes(content), True)
            offset += len(content) + 1
        if len(rest) > limit:
            skipped, rest = SkippedBytes(rest), b""
    yield Line(offset, rest if skipped is None else skipped, False)
