"""The records of a WARC stream, found by their lengths.

Other parsers lose what lies behind damage: warcio stops at the first malformed record, and fastwarc
2.0.1 at the first damaged gzip member, and it takes a record that was cut for a whole one. Here a
record must end where its length says: before the next record, or at the end of the file. After one
that does not, reading continues at the next header.
"""

import base64
import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from safelm.ingestion.decompress import TRUNCATED
from safelm.ingestion.errors import UnreadableFile
from safelm.ingestion.lines import SkippedBytes

VERSION = rb"WARC/(?:1\.[01]|0\.1[78])[ \t]*\r?\n"
HEADER = re.compile(VERSION)
NEXT = re.compile(rb"\n" + VERSION)
END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
FIRST_LINES = (b"WARC/1.0\r\n", b"WARC/1.1\r\n")
# The first bytes of every file in ARC (Internet Archive, ARC 1.0).
ARC = b"filedesc://"
DIGESTS = ("md5", "sha1", "sha256", "sha512")
LENGTH = re.compile(r"[0-9]{1,15}")
HEADER_BYTES = 1 << 16
# More bytes than a match of NEXT has.
TAIL = 32
MALFORMED = "malformed_record"
TOO_LONG = "record_too_long"


@dataclass(frozen=True)
class WarcRecord:
    """A record of a WARC stream or, if it has a `fault`, the bytes up to the next header.

    The names in `header` are lower case; a faulty record may have an empty header. `content` is
    for the quarantine.
    """

    offset: int
    header: dict[str, str]
    body: bytes
    fault: str | None
    content: bytes | SkippedBytes


class StreamWindow:
    """A window over a stream of blocks, whose bytes can be seen before they are taken."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks = blocks
        self.bytes = bytearray()
        self.offset = 0

    def fill(self, size: int) -> bool:
        """Extend the window to at least `size` bytes; return False if the stream ends before."""
        while len(self.bytes) < size:
            block = next(self.blocks, None)
            if block is None:
                return False
            self.bytes += block
        return True

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes and move beyond them."""
        taken = bytes(self.bytes[:size])
        del self.bytes[:size]
        self.offset += len(taken)
        return taken


def records(blocks: Iterator[bytes], limit: int) -> Iterator[WarcRecord]:
    """Yield every record of a stream, and bytes that are no record as one with a fault.

    Records whose body has more than `limit` bytes have the fault record_too_long. Raises
    UnreadableFile for a file in ARC, the format before WARC.
    """
    window = StreamWindow(blocks)
    window.fill(len(ARC))
    if window.bytes.startswith(ARC):
        raise UnreadableFile("arc_file")
    while _skip_empty_lines(window):
        start = window.offset
        header, size = _header(window)
        length = header.get("content-length", "")
        if "warc-type" not in header or not LENGTH.fullmatch(length):
            # Only the end of the stream can cut a header.
            is_record = _begins_a_header(bytes(window.bytes[:TAIL]))
            skipped, has_next = _skip_to_next(window)
            is_cut = is_record and not size and not has_next
            yield WarcRecord(start, {}, b"", TRUNCATED if is_cut else MALFORMED, skipped)
        elif int(length) > limit:
            skipped, _ = _skip_to_next(window)
            yield WarcRecord(start, header, b"", TOO_LONG, skipped)
        else:
            yield _record(window, header, size, size + int(length))


def _skip_empty_lines(window: StreamWindow) -> bool:
    """Move to the next record; return False at the end of the stream."""
    while window.fill(1):
        head = window.bytes[:TAIL]
        window.take(len(head) - len(head.lstrip(b"\r\n")))
        if head.lstrip(b"\r\n"):
            return True
    return False


def _header(window: StreamWindow) -> tuple[dict[str, str], int]:
    """Return the fields of the header at the start of the window, and its size; 0 if there is none.

    The window does not move.
    """
    window.fill(HEADER_BYTES)
    end = END_OF_HEADER.search(window.bytes, 0, HEADER_BYTES)
    if not HEADER.match(window.bytes) or not end:
        return {}, 0
    if NEXT.search(window.bytes, 0, end.start()):
        # Another header line comes before the end, so this header was cut.
        return {}, 0
    text = bytes(window.bytes[: end.start()]).decode("utf-8", "replace")
    fields = {}
    for line in text.splitlines()[1:]:
        name, colon, value = line.partition(":")
        if colon:
            fields[name.strip().lower()] = value.strip()
    return fields, end.end()


def _record(window: StreamWindow, header: dict[str, str], size: int, end: int) -> WarcRecord:
    """Return the record that ends at `end` of the window, according to its length."""
    start = window.offset
    is_whole = window.fill(end)
    if is_whole and _may_end(window, end) and not _holds_another(window, header, size, end):
        content = window.take(end)
        return WarcRecord(start, header, content[size:], None, content)
    skipped, has_next = _skip_to_next(window)
    fault = MALFORMED if is_whole or has_next else TRUNCATED
    return WarcRecord(start, header, b"", fault, skipped)


def _may_end(window: StreamWindow, end: int) -> bool:
    """Return whether a record may end here: two empty lines, another record or nothing follows."""
    window.fill(end + TAIL)
    rest = bytes(window.bytes[end : end + TAIL])
    text = rest.lstrip(b"\r\n")
    return rest.startswith(b"\r\n\r\n") or not text or _begins_a_header(text)


def _holds_another(window: StreamWindow, header: dict[str, str], size: int, end: int) -> bool:
    """Return whether a record lost its end, so that its length reaches into a later record.

    A page about WARC may hold a header too. It is believed if its digest is right.
    """
    start = window.bytes.find(b"\nWARC/", size, end)
    if start < 0 or not NEXT.search(window.bytes, start, end):
        return False
    name, _, expected = header.get("warc-block-digest", "").partition(":")
    if name.lower() not in DIGESTS:
        return True
    digest = hashlib.new(name, window.bytes[size:end], usedforsecurity=False).digest()
    # WARC 1.1 §5.8 leaves the encoding open; crawlers write base 32 or hexadecimal digits.
    return expected.lower() not in (base64.b32encode(digest).decode().lower(), digest.hex())


def _begins_a_header(text: bytes) -> bool:
    """Return whether a header line begins here, even if the file is cut within the line."""
    return bool(HEADER.match(text)) or any(line.startswith(text) for line in FIRST_LINES)


def _skip_to_next(window: StreamWindow) -> tuple[SkippedBytes, bool]:
    """Move to the next header line, beyond one at the start; return False if there is none."""
    # At least one byte, so that a header line at the start is not found again.
    skipped = SkippedBytes(window.take(1))
    while True:
        match = NEXT.search(window.bytes)
        if match:
            skipped.add(window.take(match.start() + 1))
            return skipped, True
        # The last bytes stay, because a header line may begin in them and end in the next block.
        skipped.add(window.take(max(0, len(window.bytes) - TAIL)))
        if not window.fill(len(window.bytes) + 1):
            skipped.add(window.take(len(window.bytes)))
            return skipped, False
