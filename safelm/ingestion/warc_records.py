"""The records of a WARC stream: found by their lengths, and after one whose length is wrong by the
next header line.

warcio stops at the first record that is not as it should be, and takes the start of the next for
the end of one that says it is longer than it is. Here a record must end where its length says:
before the next, or at the end of the file."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from safelm.ingestion.decompress import TRUNCATED
from safelm.ingestion.lines import SkippedBytes

VERSION = rb"WARC/(?:1\.[01]|0\.1[78])[ \t]*\r?\n"
HEADER = re.compile(VERSION)
NEXT = re.compile(rb"\n" + VERSION)
END_OF_HEADER = re.compile(rb"\r?\n\r?\n")
FIRST_LINES = (b"WARC/1.0\r\n", b"WARC/1.1\r\n")
HEADER_BYTES = 1 << 16
TAIL = 32  # more bytes than NEXT can match
MALFORMED = "malformed_record"
TOO_LONG = "record_too_long"


@dataclass(frozen=True)
class WarcRecord:
    """A record. `fault` is None where header and length are right, else the reason; it then goes to
    the next header.
    """

    offset: int
    header: dict[str, str]  # names in lower case; empty where there is none
    body: bytes
    fault: str | None
    content: bytes | SkippedBytes  # what the quarantine needs


class StreamWindow:
    """A window over a stream of blocks: bytes are looked at before they are taken."""

    def __init__(self, blocks: Iterator[bytes]) -> None:
        self.blocks, self.window, self.offset = blocks, bytearray(), 0

    def fill(self, size: int) -> bool:
        """See at least `size` bytes, unless the stream ends before."""
        while len(self.window) < size:
            block = next(self.blocks, None)
            if block is None:
                return False
            self.window += block
        return True

    def take(self, size: int) -> bytes:
        """Go on by `size` bytes, and give them."""
        taken = bytes(self.window[:size])
        del self.window[:size]
        self.offset += len(taken)
        return taken


def records(blocks: Iterator[bytes], limit: int) -> Iterator[WarcRecord]:
    """Every record of a stream, with at most `limit` bytes in its body. What is no record is one
    with a fault.
    """
    tape = StreamWindow(blocks)
    while _at_a_record(tape):
        start = tape.offset
        header, size = _header(tape)
        length = header.get("content-length", "")
        if "warc-type" not in header or not re.fullmatch(r"[0-9]{1,15}", length):
            is_record = _begins_a_header(bytes(tape.window[:TAIL]))
            content, found = _to_the_next(tape)
            yield WarcRecord(
                start,
                {},
                b"",
                TRUNCATED if is_record and not size and not found else MALFORMED,
                content,
            )
        elif int(length) > limit:
            content, _ = _to_the_next(tape)
            yield WarcRecord(start, header, b"", TOO_LONG, content)
        else:
            yield _record(tape, header, size, size + int(length))


def _at_a_record(tape: StreamWindow) -> bool:
    """Go on over the empty lines between records; False at the end."""
    while tape.fill(1):
        blank = len(tape.window) - len(tape.window.lstrip(b"\r\n"))
        tape.take(blank)
        if tape.window:
            return True
    return False


def _header(tape: StreamWindow) -> tuple[dict[str, str], int]:
    """The named fields at the start of the window, which stays there, and their size; 0 when this
    is no header.
    """
    tape.fill(HEADER_BYTES)
    found = END_OF_HEADER.search(tape.window, 0, HEADER_BYTES)
    if not HEADER.match(tape.window) or not found or NEXT.search(tape.window, 0, found.start()):
        return {}, 0  # none, or one that was cut, with the next right behind it
    lines = bytes(tape.window[: found.start()]).decode("utf-8", "replace").splitlines()[1:]
    fields = (line.partition(":") for line in lines)
    return {
        name.strip().lower(): value.strip() for name, colon, value in fields if colon
    }, found.end()


def _record(tape: StreamWindow, header: dict[str, str], size: int, end: int) -> WarcRecord:
    """The record that ends at `end` of the window, by its own account."""
    start, is_whole = tape.offset, tape.fill(end)
    if is_whole and _is_an_end(tape, end):
        content = tape.take(end)
        return WarcRecord(start, header, content[size:], None, content)
    skipped, found = _to_the_next(tape)
    return WarcRecord(start, header, b"", MALFORMED if is_whole or found else TRUNCATED, skipped)


def _is_an_end(tape: StreamWindow, end: int) -> bool:
    """Whether a record may end here: the two empty lines of the standard come, the next record, or
    nothing.
    """
    tape.fill(end + TAIL)
    rest = bytes(tape.window[end : end + TAIL])
    text = rest.lstrip(b"\r\n")
    return rest.startswith(b"\r\n\r\n") or not text or _begins_a_header(text)


def _begins_a_header(text: bytes) -> bool:
    """Whether a header line stands here, or the start of one at which a file was cut."""
    return bool(HEADER.match(text)) or any(line.startswith(text) for line in FIRST_LINES)


def _to_the_next(tape: StreamWindow) -> tuple[SkippedBytes, bool]:
    """Go on to the next header line, past the one at which the window may stand; False where there
    is none.
    """
    skipped = SkippedBytes(tape.take(1))
    while True:
        found = NEXT.search(tape.window)
        if found:
            skipped.add(tape.take(found.start() + 1))
            return skipped, True
        skipped.add(tape.take(max(0, len(tape.window) - TAIL)))
        if not tape.fill(len(tape.window) + 1):
            skipped.add(tape.take(len(tape.window)))
            return skipped, False
