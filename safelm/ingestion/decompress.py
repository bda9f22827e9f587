"""Decompression of gzip, zstd and plain files in bounded memory, with damage found beforehand.

A flipped bit can change a letter, and only the check sum at the end of a gzip member or zstd frame
reveals it. A first pass over the whole file therefore finds damaged members before any byte is
yielded. Up to a limit its output is kept; the rest is decompressed again.
"""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

from safelm.ingestion.compression import (
    BLOCK,
    GZIP,
    ZSTD,
    Unpack,
    is_skippable,
    unpack_gzip,
    zstd_unpacker,
)
from safelm.ingestion.errors import CorruptMember, TruncatedMember, UnreadableFile

# The most unpacked bytes that stay in memory between the first pass and the second.
KEPT = 1 << 27
# A file that unpacks to less is no bomb, whatever its ratio.
FLOOR = 1 << 20
PACKED_NAMES = (".gz", ".zst", ".zstd")
DAMAGED = "damaged"
TRUNCATED = "truncated"
UNKNOWN_PACKING = "unknown_packing"
# The first bytes of zip, bzip2, xz, lz4 and 7z.
OTHERS = (b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x04\x22\x4d\x18", b"7z\xbc\xaf")


@dataclass(frozen=True)
class Member:
    """A gzip member or zstd frame: file[start:end] unpacks to `size` bytes.

    `fault` is damaged, truncated or None. `blocks` has the bytes if they were kept.
    """

    start: int
    end: int
    size: int
    fault: str | None
    blocks: deque[bytes] | None


@dataclass(frozen=True)
class Segment:
    """Unpacked bytes without a gap; `offset` is that of the first among all unpacked bytes.

    `fault` is damaged (no byte can be trusted), truncated (cut short) or None.
    """

    offset: int
    fault: str | None
    blocks: Iterator[bytes]


def segments(path: Path, max_expansion_ratio: int) -> Iterator[Segment]:
    """Yield the segments of a file, in order.

    Raises UnreadableFile for a bomb, an unknown packing, or a packed file that is empty.
    """
    with path.open("rb") as file:
        first = file.read(16)
        suffix = path.suffix if not _is_text(first) else ""
        # An empty file is not even a gzip member of nothing.
        if not first and suffix in PACKED_NAMES:
            raise UnreadableFile(TRUNCATED)
        if first.startswith(OTHERS):
            raise UnreadableFile(UNKNOWN_PACKING)
        is_zstd = first.startswith(ZSTD) or is_skippable(first)
        if not is_zstd and (first.startswith(GZIP) or suffix == ".gz"):
            yield from _segments(file, unpack_gzip, GZIP, max_expansion_ratio)
        elif is_zstd or suffix in PACKED_NAMES:
            unpack = zstd_unpacker(file, max_expansion_ratio * FLOOR)
            yield from _segments(file, unpack, ZSTD, max_expansion_ratio)
        else:
            file.seek(0)
            yield Segment(0, None, iter(lambda: file.read(BLOCK), b""))


def _is_text(first: bytes) -> bool:
    """Return whether a file with a packed file's name holds text, not a damaged member."""
    # Control characters below the tab are in no text.
    if GZIP.startswith(first) or ZSTD.startswith(first) or min(first) < 9:
        return False
    try:
        first.decode()
    except UnicodeDecodeError as error:
        # `first` may end inside a letter.
        return error.start >= len(first) - 3
    return True


def _segments(
    file: BinaryIO, unpack: Unpack, magic: bytes, max_expansion_ratio: int
) -> Iterator[Segment]:
    offset = 0
    every = _members(file, unpack, magic, max_expansion_ratio)
    for _, group in groupby(every, key=lambda member: member.fault == DAMAGED):
        members = list(group)
        yield Segment(offset, members[-1].fault, _blocks(file, unpack, members))
        offset += sum(member.size for member in members)


def _blocks(file: BinaryIO, unpack: Unpack, members: list[Member]) -> Iterator[bytes]:
    """Yield the bytes of members: the second pass."""
    for member in members:
        try:
            if member.blocks is None:
                yield from unpack(file, member.start)
            while member.blocks:
                yield member.blocks.popleft()
        except (CorruptMember, TruncatedMember):
            # Known since the first pass. The bytes before the damage were yielded, so that their
            # lines are counted.
            continue


def _members(
    file: BinaryIO, unpack: Unpack, magic: bytes, max_expansion_ratio: int
) -> list[Member]:
    """Find every member and its fault: the first pass."""
    end = file.seek(0, 2)
    limit = max(FLOOR, max_expansion_ratio * end)
    members: list[Member] = []
    start = total = 0
    while start < end:
        member = _scan_member(file, unpack, magic, start, end, total, limit)
        if member.fault != DAMAGED or not _is_padding(file, start, member.end):
            members.append(member)
            total += member.size
        start = member.end
    return members


def _scan_member(
    file: BinaryIO, unpack: Unpack, magic: bytes, start: int, end: int, total: int, limit: int
) -> Member:
    """Unpack the member at `start` of a file of `end` bytes; a faulty one ends at the next member.

    Raises UnreadableFile if it and the `total` bytes before it unpack to more than `limit`.
    """
    size = 0
    fault = None
    kept: deque[bytes] | None = deque()
    blocks = unpack(file, start)
    try:
        while True:
            block = next(blocks)
            is_first = not total and not size
            if is_first and block.startswith((GZIP, ZSTD, *OTHERS)):
                # Packed twice.
                raise UnreadableFile(UNKNOWN_PACKING)
            size += len(block)
            if total + size > limit:
                raise UnreadableFile("expansion")
            if total + size > KEPT:
                kept = None
            if kept is not None:
                kept.append(block)
    except StopIteration as done:
        stop = done.value
    except TruncatedMember:
        stop = _next_member(file, unpack, magic, start, end)
        # A damaged header can swallow the members that follow.
        fault = TRUNCATED if stop == end else DAMAGED
    except CorruptMember:
        stop = _next_member(file, unpack, magic, start, end)
        fault = DAMAGED
    return Member(start, stop, size, fault, kept)


def _next_member(file: BinaryIO, unpack: Unpack, magic: bytes, start: int, end: int) -> int:
    """Return the offset of the next member after `start`, or the end of the file."""
    # Bytes that only look like a member do not unpack.
    while (start := _find(file, magic, start + 1, end)) < end:
        try:
            next(unpack(file, start), b"")
        except (CorruptMember, TruncatedMember):
            continue
        return start
    return end


def _find(file: BinaryIO, pattern: bytes, start: int, end: int) -> int:
    """Return the offset of a pattern from `start` on, or the end of the file."""
    # Blocks overlap, because the pattern may begin in one and end in the next.
    overlap = len(pattern) - 1
    while start < end:
        file.seek(start)
        index = file.read(BLOCK).find(pattern)
        if index >= 0:
            return start + index
        start += BLOCK - overlap
    return end


def _is_padding(file: BinaryIO, start: int, end: int) -> bool:
    """Return whether only zeros follow the last member, as tapes and block devices leave them."""
    # gzip itself ignores them.
    if end - start > BLOCK:
        return False
    file.seek(start)
    return not file.read(end - start).strip(b"\0")
