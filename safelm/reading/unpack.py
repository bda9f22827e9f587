"""The bytes of a file: gzip, zstd or plain by its first bytes, in bounded memory, and no damaged part unnoticed.

A packed file is unpacked twice. A flipped bit can change a letter, and only the check sum at the end of a gzip member
or zstd frame tells; so the first pass finds those that do not hold what was written, before a byte is handed out.
"""

import zlib
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import BinaryIO

import zstandard

CHUNK = 1 << 15  # bytes read at a time: the members of a WARC are about that small
BLOCK = 1 << 20  # bytes unpacked at a time, at most
FLOOR = 1 << 20  # a file that unpacks to less than this is no bomb
WINDOW = 1 << 27  # memory that a zstd frame may ask for: what the zstd command allows
PACKED_NAMES = (".gz", ".zst", ".zstd")
DAMAGED = "damaged"
TRUNCATED = "truncated"
GZIP = b"\x1f\x8b\x08"
ZSTD = b"\x28\xb5\x2f\xfd"
OTHERS = (b"PK\x03\x04", b"BZh", b"\xfd7zXZ", b"\x04\x22\x4d\x18", b"7z\xbc\xaf")  # zip, bzip2, xz, lz4, 7z


class Unreadable(Exception):
    """Nothing of a file can be used; `reason` is its name in the ledger."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class _Broken(Exception):
    """The bytes of a member are not what was written."""


class _Cut(Exception):
    """A member ends before its end."""


@dataclass(frozen=True)
class Member:
    """A gzip member or zstd frame: file[start:end] unpacks to `size` bytes."""

    start: int
    end: int
    size: int
    fault: str | None


@dataclass(frozen=True)
class Stretch:
    """Unpacked bytes without a gap. `fault`: damaged (none of them can be trusted), truncated (cut short) or None."""

    offset: int  # of its first byte among all unpacked bytes of the file
    fault: str | None
    blocks: Iterator[bytes]


Unpack = Callable[[BinaryIO, int], Generator[bytes, None, int]]


def stretches(path: Path, expansion: int) -> Iterator[Stretch]:
    """The stretches of a file, in order. Raises Unreadable for a bomb and for packings that are not known here."""
    with path.open("rb") as file:
        first = file.read(16)
        named = path.suffix if not _is_text(first) else ""
        if not first and named in PACKED_NAMES:
            raise Unreadable(TRUNCATED)
        if first.startswith(OTHERS):
            raise Unreadable("unknown_packing")
        if first.startswith(ZSTD) or _is_skippable(first):
            yield from _stretches(file, _zstd, ZSTD, expansion)
        elif first.startswith(GZIP) or named == ".gz":
            yield from _stretches(file, _gzip, GZIP, expansion)
        elif named in PACKED_NAMES:
            yield from _stretches(file, _zstd, ZSTD, expansion)
        else:
            file.seek(0)
            yield Stretch(0, None, iter(lambda: file.read(BLOCK), b""))


def _is_text(first: bytes) -> bool:
    """Whether a file whose name promises a packed one holds text, rather than a packed one whose start is damaged."""
    if GZIP.startswith(first) or ZSTD.startswith(first) or min(first) < 9:
        return False
    try:
        first.decode()
    except UnicodeDecodeError as error:
        return error.start >= len(first) - 3  # a letter may be cut
    return True


def _stretches(file: BinaryIO, unpack: Unpack, magic: bytes, expansion: int) -> Iterator[Stretch]:
    offset = 0
    for _, group in groupby(_members(file, unpack, magic, expansion), key=lambda member: member.fault == DAMAGED):
        members = list(group)
        yield Stretch(offset, members[-1].fault, _blocks(file, unpack, members))
        offset += sum(member.size for member in members)


def _blocks(file: BinaryIO, unpack: Unpack, members: list[Member]) -> Iterator[bytes]:
    """The second pass. What a damaged member gives before it breaks is given too, for its lines to be counted."""
    for member in members:
        try:
            yield from unpack(file, member.start)
        except (_Broken, _Cut):
            continue  # known since the first pass


def _members(file: BinaryIO, unpack: Unpack, magic: bytes, expansion: int) -> list[Member]:
    """The first pass: where every member is and whether it is sound; after a damaged one, on to the next start."""
    end = file.seek(0, 2)
    limit = max(FLOOR, expansion * end)
    members: list[Member] = []
    position = total = 0
    while position < end:
        start, fault, size = position, None, 0
        blocks = unpack(file, start)
        try:
            while True:
                size += len(next(blocks))
                if total + size > limit:
                    raise Unreadable("expansion")
        except StopIteration as done:
            position = done.value
        except _Cut:
            position = _next(file, unpack, magic, start, end)
            fault = TRUNCATED if position == end else DAMAGED  # a damaged header can swallow what follows
        except _Broken:
            fault, position = DAMAGED, _next(file, unpack, magic, start, end)
            if _is_padding(file, start, position):
                continue
        members.append(Member(start, position, size, fault))
        total += size
    return members


def _next(file: BinaryIO, unpack: Unpack, magic: bytes, start: int, end: int) -> int:
    """Where the next member after `start` is, or the end of the file. What looks like one by chance does not unpack."""
    while (start := _find(file, magic, start + 1, end)) < end:
        try:
            next(unpack(file, start), b"")
        except (_Broken, _Cut):
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


def _gzip(file: BinaryIO, start: int) -> Generator[bytes, None, int]:
    """The blocks of the gzip member at `start`; returns where it ends. zlib checks the sum and the length."""
    file.seek(start)
    position, size, engine = start, 0, zlib.decompressobj(wbits=31)
    while not engine.eof:
        data = engine.unconsumed_tail
        if not data:
            file.seek(position)
            data = file.read(CHUNK)
            position += len(data)
        try:
            block = engine.decompress(data, BLOCK)
        except zlib.error as error:
            raise _Broken from error
        size += len(block)
        if block:
            yield block
        elif not data:
            raise _Broken if _ends_with_its_size(file, size) else _Cut
    return position - len(engine.unused_data)


def _ends_with_its_size(file: BinaryIO, size: int) -> bool:
    """Whether a gzip file that unpacks to no end has one: the size that stands there is about that of what came out.

    Changed bits can lead the unpacking past the end. What came out then cannot be trusted; after a cut it can.
    """
    file.seek(max(0, file.seek(0, 2) - 4))
    return abs(int.from_bytes(file.read(4), "little") - size) <= min(size // 4, BLOCK)


class _Part:
    """A part of a file as a file, which is what zstandard reads from."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self.file, self.position, self.end = file, start, end

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes."""
        self.file.seek(self.position)
        data = self.file.read(min(size if size >= 0 else CHUNK, self.end - self.position))
        self.position += len(data)
        return data


def _zstd(file: BinaryIO, start: int) -> Generator[bytes, None, int]:
    """The blocks of the zstd frame at `start`; returns where it ends. zstandard itself is silent when one was cut."""
    end = _frame_end(file, start)
    if end is None:
        raise _Broken
    size = file.seek(0, 2)
    file.seek(start)
    if not _is_skippable(file.read(4)):
        engine = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        reader = engine.stream_reader(_Part(file, start, min(end, size)), read_size=CHUNK)  # type: ignore[arg-type]  # it can read
        try:
            while block := reader.read(BLOCK):
                yield block
        except zstandard.ZstdError as error:
            raise _Broken from error
    if end > size:
        raise _Cut
    return end


def _is_skippable(first: bytes) -> bool:
    """A zstd frame that holds no data: magic 0x184D2A50 to 0x184D2A5F (RFC 8878 §3.1.2)."""
    return len(first) >= 4 and 0x50 <= first[0] <= 0x5F and first[1:4] == b"\x2a\x4d\x18"


def _frame_end(file: BinaryIO, start: int) -> int | None:
    """Where a zstd frame ends by the sizes its block headers give (RFC 8878 §3.1.1); None for no frame at all."""
    file.seek(start)
    head = file.read(18)
    if _is_skippable(head):
        return start + 8 + int.from_bytes(head[4:8], "little")
    if not head.startswith(ZSTD):
        return None
    try:
        frame = zstandard.get_frame_parameters(head)
        position = start + zstandard.frame_header_size(head)
    except zstandard.ZstdError:
        return start + len(head) + 1 if len(head) < 18 else None  # the header itself is cut, or is not one
    if frame.window_size > WINDOW or frame.dict_id:
        if start == 0:
            raise Unreadable("unknown_packing")
        return None
    while True:
        file.seek(position)
        data = file.read(3)
        if len(data) < 3:
            return position + 3  # past the end of the file: cut
        header = int.from_bytes(data, "little")
        last, kind, size = header & 1, header >> 1 & 3, header >> 3
        if kind == 3:
            return None
        position += 3 + (1 if kind == 1 else size)
        if last:
            return position + 4 * frame.has_checksum
