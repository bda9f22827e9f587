"""Decompression of one gzip member or zstd frame, with checks of its end and content.

fastwarc 2.0.1 is not used: it takes a gzip file that was cut for a whole one, and gives changed
bytes before it finds that their check sum is wrong.
"""

import zlib
from collections.abc import Callable, Generator
from functools import partial
from typing import BinaryIO, Protocol

import zstandard

from safelm.ingestion.errors import CorruptMember, TruncatedMember, UnreadableFile

# Bytes unpacked at a time. At most 128 MB come of them: four bytes of a zstd block can stand for
# 2^17 (RFC 8878 §3.1.1.2). What comes of a damaged piece is lost.
CHUNK = 1 << 12
# Bytes that are collected before they are given on.
BLOCK = 1 << 20
# Memory that a zstd frame may ask for: the limit of the zstd command.
WINDOW = 1 << 27
GZIP = b"\x1f\x8b\x08"
ZSTD = b"\x28\xb5\x2f\xfd"
# The first bytes of a skippable frame with a dictionary (IIPC, Zstandard for WARC 1.0).
DICTIONARY = b"\x5d\x2a\x4d\x18"
# The most bytes of the header of a zstd frame (RFC 8878 §3.1.1).
ZSTD_HEADER = 18

# A generator of the blocks of the member at an offset of a file; it returns the offset of its end.
Unpack = Callable[[BinaryIO, int], Generator[bytes, None, int]]


class Engine(Protocol):
    """The interface that the decompressors of zlib and zstandard share."""

    @property
    def eof(self) -> bool:
        """Whether the end of the member was reached and its check sum is right."""

    @property
    def unused_data(self) -> bytes:
        """The bytes that were given after the end of the member."""

    def decompress(self, data: bytes, /) -> bytes:
        """Unpack the next bytes."""


def _unpack(
    create: Callable[[], Engine], file: BinaryIO, start: int
) -> Generator[bytes, None, int]:
    """Yield the blocks of the member at `start`, also those before damage or a cut.

    Raises CorruptMember, or TruncatedMember if the file ends inside the member.
    """
    engine = create()
    position = start
    held = bytearray()
    size = 0
    fault: Exception | None = None
    while fault is None and not engine.eof:
        file.seek(position)
        data = file.read(CHUNK)
        position += len(data)
        try:
            held += engine.decompress(data)
        except (zlib.error, zstandard.ZstdError):
            fault = CorruptMember()
        if not data:
            fault = TruncatedMember()
        if held and (len(held) >= BLOCK or fault or engine.eof):
            size += len(held)
            yield bytes(held)
            held.clear()
    if isinstance(fault, TruncatedMember) and _has_trailing_size(file, start, size):
        fault = CorruptMember()
    if fault:
        raise fault
    return position - len(engine.unused_data)


# 31: a gzip header and trailer around the largest window (zlib.h, inflateInit2).
unpack_gzip: Unpack = partial(_unpack, partial(zlib.decompressobj, wbits=31))


def _has_trailing_size(file: BinaryIO, start: int, size: int) -> bool:
    """Return whether a gzip file that seems cut ends with about the size that was unpacked.

    Then changed bits have led the decompression past the end of a member, and its output cannot be
    trusted. After a mere cut it can.
    """
    file.seek(start)
    if file.read(len(GZIP)) != GZIP:
        return False
    # A member ends with its unpacked size, modulo 2³² (RFC 1952 §2.3.1).
    file.seek(max(0, file.seek(0, 2) - 4))
    written = int.from_bytes(file.read(4), "little")
    return size > 0 and abs(written - size) <= min(size // 4, BLOCK)


def zstd_unpacker(file: BinaryIO, max_bytes: int) -> Unpack:
    """Return the function that unpacks the frames of a zstd file, with its dictionary if any.

    A .warc.zst has its dictionary of at most `max_bytes` in a skippable frame of its own at the
    start, packed or not (IIPC, Zstandard for WARC 1.0). Raises UnreadableFile if the dictionary is
    damaged, or if the file asks for another one or for too much memory.
    """
    file.seek(0)
    head = file.read(ZSTD_HEADER)
    words = None
    if head.startswith(DICTIONARY):
        file.seek(8)
        data = file.read(min(int.from_bytes(head[4:8], "little"), max_bytes))
        try:
            if data.startswith(ZSTD):
                data = zstandard.ZstdDecompressor().decompress(data, max_output_size=max_bytes)
            words = zstandard.ZstdCompressionDict(data)
        except zstandard.ZstdError as error:
            raise UnreadableFile("damaged") from error
    elif head.startswith(ZSTD) and _asks_for_more(head):
        raise UnreadableFile("unknown_packing")
    engine = zstandard.ZstdDecompressor(words, max_window_size=WINDOW)
    return partial(_unpack, engine.decompressobj)


def _asks_for_more(head: bytes) -> bool:
    """Return whether a zstd frame needs a dictionary, or more memory than allowed."""
    try:
        frame = zstandard.get_frame_parameters(head)
    except zstandard.ZstdError:
        # The header is cut or damaged, which the decompression finds too.
        return False
    return bool(frame.dict_id) or frame.window_size > WINDOW


def is_skippable(first: bytes) -> bool:
    """Return whether a zstd frame holds no data."""
    # The magic numbers 0x184D2A50 to 0x184D2A5F, little-endian (RFC 8878 §3.1.2).
    return first[1:4] == b"\x2a\x4d\x18" and 0x50 <= first[0] <= 0x5F
