"""One gzip member or zstd frame: its blocks, where it ends, and whether it holds what was written."""

import zlib
from collections.abc import Callable, Generator
from typing import BinaryIO

import zstandard

CHUNK = 1 << 15  # bytes read at a time: the members of a WARC are about that small
BLOCK = 1 << 20  # bytes unpacked at a time, at most
WINDOW = 1 << 27  # memory that a zstd frame may ask for: what the zstd command allows
GZIP = b"\x1f\x8b\x08"
ZSTD = b"\x28\xb5\x2f\xfd"

Unpack = Callable[[BinaryIO, int], Generator[bytes, None, int]]


class UnreadableFile(Exception):
    """Nothing of a file can be used; `reason` is its name in the ledger."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class CorruptMember(Exception):
    """The bytes of a member are not what was written."""


class TruncatedMember(Exception):
    """A member ends before its end."""


def unpack_gzip(file: BinaryIO, start: int) -> Generator[bytes, None, int]:
    """The blocks of the gzip member at `start`; returns where it ends. zlib checks the sum and the
    length.
    """
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
            raise CorruptMember from error
        size += len(block)
        if block:
            yield block
        elif not data:
            raise CorruptMember if _ends_with_its_size(file, size) else TruncatedMember
    return position - len(engine.unused_data)


def _ends_with_its_size(file: BinaryIO, size: int) -> bool:
    """Whether a gzip file that unpacks to no end has one: the size that stands there is about that
    of what came out.

    Changed bits can lead the unpacking past the end. What came out then cannot be trusted; after a
    cut it can."""
    file.seek(max(0, file.seek(0, 2) - 4))
    return size > 0 and abs(int.from_bytes(file.read(4), "little") - size) <= min(size // 4, BLOCK)


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


def unpack_zstd(file: BinaryIO, start: int) -> Generator[bytes, None, int]:
    """The blocks of the zstd frame at `start`; returns where it ends. zstandard itself is silent
    when one was cut.
    """
    end = _frame_end(file, start)
    if end is None:
        raise CorruptMember
    size = file.seek(0, 2)
    file.seek(start)
    if not is_skippable(file.read(4)):
        engine = zstandard.ZstdDecompressor(max_window_size=WINDOW)
        reader = engine.stream_reader(_Part(file, start, min(end, size)), read_size=CHUNK)  # type: ignore[arg-type]  # it can read
        try:
            while block := reader.read(BLOCK):
                yield block
        except zstandard.ZstdError as error:
            raise CorruptMember from error
    if end > size:
        raise TruncatedMember
    return end


def is_skippable(first: bytes) -> bool:
    """A zstd frame that holds no data: magic 0x184D2A50 to 0x184D2A5F (RFC 8878 §3.1.2)."""
    return len(first) >= 4 and 0x50 <= first[0] <= 0x5F and first[1:4] == b"\x2a\x4d\x18"


def _frame_end(file: BinaryIO, start: int) -> int | None:
    """Where a zstd frame ends by the sizes its block headers give (RFC 8878 §3.1.1); None for no
    frame at all.
    """
    file.seek(start)
    head = file.read(18)
    if is_skippable(head):
        return start + 8 + int.from_bytes(head[4:8], "little")
    if not head.startswith(ZSTD):
        return None
    try:
        frame = zstandard.get_frame_parameters(head)
        position = start + zstandard.frame_header_size(head)
    except zstandard.ZstdError:
        return (
            start + len(head) + 1 if len(head) < 18 else None
        )  # the header itself is cut, or is not one
    if frame.window_size > WINDOW or frame.dict_id:
        if start == 0:
            raise UnreadableFile("unknown_packing")
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
