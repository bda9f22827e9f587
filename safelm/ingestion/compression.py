"""Decompression of one gzip member or zstd frame, with checks of its end and content."""

import zlib
from collections.abc import Callable, Generator
from typing import BinaryIO

import zstandard

from safelm.ingestion.errors import CorruptMember, TruncatedMember, UnreadableFile

# Bytes read at a time, because the members of a WARC are that small.
CHUNK = 1 << 15
# The most bytes unpacked at a time.
BLOCK = 1 << 20
# Memory that a zstd frame may ask for: the limit of the zstd command.
WINDOW = 1 << 27
GZIP = b"\x1f\x8b\x08"
ZSTD = b"\x28\xb5\x2f\xfd"
# The most bytes of the header of a zstd frame (RFC 8878 §3.1.1).
ZSTD_HEADER = 18

# A generator of the blocks of the member at an offset of a file; it returns the offset of its end.
Unpack = Callable[[BinaryIO, int], Generator[bytes, None, int]]


def unpack_gzip(file: BinaryIO, start: int) -> Generator[bytes, None, int]:
    """Yield the blocks of the gzip member at `start`; zlib verifies its check sum and length."""
    file.seek(start)
    position = start
    size = 0
    # 31: a gzip header and trailer around the largest window (zlib.h, inflateInit2).
    engine = zlib.decompressobj(wbits=31)
    while not engine.eof:
        data = engine.unconsumed_tail
        if not data:
            file.seek(position)
            data = file.read(CHUNK)
            position += len(data)
        try:
            block = engine.decompress(data, BLOCK)
        except zlib.error as error:
            raise CorruptMember from error
        size += len(block)
        if block:
            yield block
        elif not data:
            # The file ended before the member did.
            raise CorruptMember if _has_trailing_size(file, size) else TruncatedMember
    return position - len(engine.unused_data)


def _has_trailing_size(file: BinaryIO, size: int) -> bool:
    """Return whether a gzip file that seems cut ends with about the size that was unpacked.

    Then changed bits have led the decompression past the end of a member, and its output cannot be
    trusted. After a mere cut it can.
    """
    # A member ends with its unpacked size, modulo 2³² (RFC 1952 §2.3.1).
    file.seek(max(0, file.seek(0, 2) - 4))
    written = int.from_bytes(file.read(4), "little")
    return size > 0 and abs(written - size) <= min(size // 4, BLOCK)


class _FilePart:
    """A part of a file, with the `read` that zstandard needs."""

    def __init__(self, file: BinaryIO, start: int, end: int) -> None:
        self.file = file
        self.position = start
        self.end = end

    def read(self, size: int = -1) -> bytes:
        """Read at most `size` bytes."""
        self.file.seek(self.position)
        wanted = size if size >= 0 else CHUNK
        data = self.file.read(min(wanted, self.end - self.position))
        self.position += len(data)
        return data


def unpack_zstd(file: BinaryIO, start: int) -> Generator[bytes, None, int]:
    """Yield the blocks of the zstd frame at `start`."""
    # zstandard does not notice a cut itself, so the end is computed first.
    end = _frame_end(file, start)
    if end is None:
        raise CorruptMember
    size = file.seek(0, 2)
    file.seek(start)
    if not is_skippable(file.read(4)):
        engine = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        part = _FilePart(file, start, min(end, size))
        # The stubs ask for a whole file object; `read` is enough.
        reader = engine.stream_reader(part, read_size=CHUNK)  # type: ignore[arg-type]
        try:
            while block := reader.read(BLOCK):
                yield block
        except zstandard.ZstdError as error:
            raise CorruptMember from error
    if end > size:
        raise TruncatedMember
    return end


def is_skippable(first: bytes) -> bool:
    """Return whether a zstd frame holds no data."""
    # The magic numbers 0x184D2A50 to 0x184D2A5F, little-endian (RFC 8878 §3.1.2).
    return first[1:4] == b"\x2a\x4d\x18" and 0x50 <= first[0] <= 0x5F


def _frame_end(file: BinaryIO, start: int) -> int | None:
    """Return the end of a zstd frame by the sizes in its block headers, or None if it is none.

    If the frame is cut, its end is beyond that of the file.
    """
    file.seek(start)
    head = file.read(ZSTD_HEADER)
    if is_skippable(head):
        return start + 8 + int.from_bytes(head[4:8], "little")
    if not head.startswith(ZSTD):
        return None
    try:
        frame = zstandard.get_frame_parameters(head)
        position = start + zstandard.frame_header_size(head)
    except zstandard.ZstdError:
        # The header is cut, or is none at all.
        return start + len(head) + 1 if len(head) < ZSTD_HEADER else None
    if frame.window_size > WINDOW or frame.dict_id:
        # At the start of a file the frame is real; further on, the bytes only look like one.
        if start == 0:
            raise UnreadableFile("unknown_packing")
        return None
    while True:
        file.seek(position)
        data = file.read(3)
        if len(data) < 3:
            return position + 3
        # RFC 8878 §3.1.1.2: one bit marks the last block, two are its type, the rest its size.
        header = int.from_bytes(data, "little")
        is_last = header & 1
        kind = header >> 1 & 3
        size = header >> 3
        if kind == 3:
            # Reserved, so this is no block.
            return None
        # A block of type 1 repeats one byte.
        position += 3 + (1 if kind == 1 else size)
        if is_last:
            # The check sum has four bytes.
            return position + 4 * frame.has_checksum
