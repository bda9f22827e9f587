"""The bytes of a file: gzip, zstd or plain by its first bytes, in bounded memory, and no damaged
part unnoticed.

A flipped bit can change a letter, and only the check sum at the end of a gzip member or zstd frame
tells; so a first pass over the whole file finds those that do not hold what was written, before a
byte is handed out. What it unpacked is kept, up to a limit; what is beyond is unpacked a second
time."""

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
    CorruptMember,
    TruncatedMember,
    Unpack,
    UnreadableFile,
    is_skippable,
    unpack_gzip,
    unpack_zstd,
)

KEPT = 1 << 27  # unpacked bytes that are in memory between the first pass and the second, at most
FLOOR = 1 << 20  # a file that unpacks to less than this is no bomb
PACKED_NAMES = (".gz", ".zst", ".zstd")
DAMAGED = "damaged"
TRUNCATED = "truncated"
OTHERS = (
    b"PK\x03\x04",
    b"BZh",
    b"\xfd7zXZ",
    b"\x04\x22\x4d\x18",
    b"7z\xbc\xaf",
)  # zip, bzip2, xz, lz4, 7z


@dataclass(frozen=True)
class Member:
    """A gzip member or zstd frame: file[start:end] unpacks to `size` bytes, which are those of
    `blocks` if not None.
    """

    start: int
    end: int
    size: int
    fault: str | None
    blocks: deque[bytes] | None


@dataclass(frozen=True)
class Segment:
    """Unpacked bytes without a gap. `fault`: damaged (none of them can be trusted), truncated (cut
    short) or None.
    """

    offset: int  # of its first byte among all unpacked bytes of the file
    fault: str | None
    blocks: Iterator[bytes]


def segments(path: Path, expansion: int) -> Iterator[Segment]:
    """The stretches of a file, in order. Raises Unreadable for a bomb and for packings that are not
    known here.
    """
    with path.open("rb") as file:
        first = file.read(16)
        named = path.suffix if not _is_text(first) else ""
        if not first and named in PACKED_NAMES:
            raise UnreadableFile(TRUNCATED)
        if first.startswith(OTHERS):
            raise UnreadableFile("unknown_packing")
        if first.startswith(ZSTD) or is_skippable(first):
            yield from _stretches(file, unpack_zstd, ZSTD, expansion)
        elif first.startswith(GZIP) or named == ".gz":
            yield from _stretches(file, unpack_gzip, GZIP, expansion)
        elif named in PACKED_NAMES:
            yield from _stretches(file, unpack_zstd, ZSTD, expansion)
        else:
            file.seek(0)
            yield Segment(0, None, iter(lambda: file.read(BLOCK), b""))


def _is_text(first: bytes) -> bool:
    """Whether a file whose name promises a packed one holds text, rather than a packed one whose
    start is damaged.
    """
    if GZIP.startswith(first) or ZSTD.startswith(first) or min(first) < 9:
        return False
    try:
        first.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(first) - 3  # a letter may be cut
    return True


def _stretches(file: BinaryIO, unpack: Unpack, magic: bytes, expansion: int) -> Iterator[Segment]:
    offset = 0
    for _, group in groupby(
        _members(file, unpack, magic, expansion), key=lambda member: member.fault == DAMAGED
    ):
        members = list(group)
        yield Segment(offset, members[-1].fault, _blocks(file, unpack, members))
        offset += sum(member.size for member in members)


def _blocks(file: BinaryIO, unpack: Unpack, members: list[Member]) -> Iterator[bytes]:
    """The second pass. What a damaged member gives before it breaks is given too, for its lines to
    be counted.
    """
    for member in members:
        try:
            if member.blocks is None:
                yield from unpack(file, member.start)
            while member.blocks:
                yield member.blocks.popleft()
        except (CorruptMember, TruncatedMember):
            continue  # known since the first pass


def _members(file: BinaryIO, unpack: Unpack, magic: bytes, expansion: int) -> list[Member]:
    """The first pass: where every member is and whether it is sound; after a damaged one, on to the
    next start.
    """
    end = file.seek(0, 2)
    limit = max(FLOOR, expansion * end)
    members: list[Member] = []
    position = total = 0
    while position < end:
        start, fault, size = position, None, 0
        blocks = unpack(file, start)
        kept: deque[bytes] | None = deque()
        try:
            while True:
                block = next(blocks)
                size += len(block)
                if total + size > limit:
                    raise UnreadableFile("expansion")
                if size == len(block) and not total and block.startswith((GZIP, ZSTD, *OTHERS)):
                    raise UnreadableFile("unknown_packing")  # packed twice
                kept = None if kept is None or total + size > KEPT else kept
                if kept is not None:
                    kept.append(block)
        except StopIteration as done:
            position = done.value
        except TruncatedMember:
            position = _next(file, unpack, magic, start, end)
            fault = (
                TRUNCATED if position == end else DAMAGED
            )  # a damaged header can swallow what follows
        except CorruptMember:
            fault, position = DAMAGED, _next(file, unpack, magic, start, end)
            if _is_padding(file, start, position):
                continue
        members.append(Member(start, position, size, fault, kept))
        total += size
    return members


def _next(file: BinaryIO, unpack: Unpack, magic: bytes, start: int, end: int) -> int:
    """Where the next member after `start` is, or the end of the file. What looks like one by chance
    does not unpack.
    """
    while (start := _find(file, magic, start + 1, end)) < end:
        try:
            next(unpack(file, start), b"")
        except (CorruptMember, TruncatedMember):
            continue
        return start
    return end


def _find(file: BinaryIO, pattern: bytes, start: int, end: int) -> int:
    """Where `pattern` comes next, or the end of the file."""
    overlap = len(pattern) - 1
    while start < end:
        file.seek(start)
        found = file.read(BLOCK).find(pattern)
        if found >= 0:
            return start + found
        start += BLOCK - overlap
    return end


def _is_padding(file: BinaryIO, start: int, end: int) -> bool:
    """Zeros after the last member, as tapes and block devices leave them; gzip itself ignores them."""
    file.seek(start)
    return end - start <= BLOCK and not file.read(end - start).strip(b"\0")
