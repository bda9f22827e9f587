"""Web pages from HTTP responses: parsing, decompression in bounded memory, and decoding."""

import codecs
import re
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO

import cchardet
from fastwarc.stream_io import BrotliReader, ZstdReader
from resiliparse.parse.encoding import map_encoding_to_html5
from warcio.statusandheaders import StatusAndHeadersParser, StatusAndHeadersParserException

from safelm.ingestion.errors import BadResponse

PROTOCOLS = ["HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"]
HTML = ("text/html", "application/xhtml+xml")
# The tags that begin a page without a media type (WHATWG MIME Sniffing Standard §7.1).
START = re.compile(
    rb"<(?:(?:!doctype html|html|head|body|title|meta|link|style|script|iframe|h1|div|font|table|"
    rb"center|article|main|section|a|br|p|b)[ \t\r\n\f/>]|!--|\?xml)",
    re.IGNORECASE,
)
# The size of a chunk, after the line end of the chunk before (RFC 9112 §7.1).
CHUNK = re.compile(rb"\r?\n?([0-9A-Fa-f]{1,16})[ \t]*(?:;[^\r\n]*)?\r?\n")
CHARSET = re.compile(r"charset\s*=\s*[\"']?([\w:.-]{2,40})", re.IGNORECASE)
META = re.compile(
    rb"<meta[^>]{0,400}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE
)
# A page declares its encoding within so many bytes.
HEAD = 4096
NOT_ASCII = re.compile(r"[^\x00-\x7f\ufffd]+")
MARKS = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
# Python's codecs for encodings of the web that have more letters than those of the same name.
CODECS = {"gbk": "gb18030", "shift_jis": "cp932", "euc_kr": "cp949", "iso8859-11": "cp874"}
# Letters of these encodings stand alone between plain ones, so a run of them is no word.
WESTERN = {"utf-8", "cp1250", "cp1252", "cp1254", "cp1257", "cp1258", "mac-roman"}
RUN = re.compile(rb"[\x80-\x9f\xa1-\xff]+")
# In Western text such runs have 1 byte in the mean, in other scripts 3 or more. Fewer bytes than
# RUN_BYTES are too few to guess by.
MEAN_RUN = 2.0
RUN_BYTES = 24
# A page with one wrong sequence for ten right ones is still UTF-8.
WRONG = 0.1


@dataclass(frozen=True)
class Response:
    """A web page as a server sent it, with its transfer coding undone."""

    status: int
    kind: str
    charset: str | None
    coding: str
    packed: bytes

    def content(self, limit: int) -> bytes:
        """Return the body with its content coding undone, at most `limit` bytes.

        Raises BadResponse for a body that is cut, damaged, too large or in an unknown coding.
        """
        # Some crawlers undo the coding, but keep the header.
        is_plain = self.packed[:HEAD].lstrip().startswith(b"<")
        if is_plain or self.coding in ("", "identity"):
            return self.packed
        if self.coding not in DECODERS:
            raise BadResponse("unknown_coding")
        try:
            content = DECODERS[self.coding](self.packed, limit + 1)
        except (OSError, zlib.error) as error:
            # The messages hold bytes of the page.
            raise BadResponse("damaged_body") from error
        if len(content) > limit:
            raise BadResponse("expansion")
        return content


def _inflate(packed: bytes, limit: int) -> bytes:
    # Servers send deflate with and without a zlib header.
    has_header = packed.startswith((b"\x1f\x8b", b"\x78"))
    # 47: gzip or zlib by the header; -15: no header (zlib.h, inflateInit2).
    engine = zlib.decompressobj(wbits=47 if has_header else -15)
    content = engine.decompress(packed, limit)
    # fastwarc's GzipReader does not notice that a body was cut.
    if len(content) < limit and not engine.eof:
        raise OSError("the body was cut")
    return content


# Functions of a packed body and the most bytes to unpack, by content coding (RFC 9110 §8.4.1).
DECODERS: dict[str, Callable[[bytes, int], bytes]] = {
    "gzip": _inflate,
    "x-gzip": _inflate,
    "deflate": _inflate,
    "br": lambda packed, limit: BrotliReader(BytesIO(packed)).read(limit),
    "zstd": lambda packed, limit: ZstdReader(BytesIO(packed)).read(limit),
}


def parse_response(body: bytes) -> Response:
    """Parse the response in the body of a WARC record; raise BadResponse if it is none."""
    stream = BytesIO(body)
    try:
        # fastwarc drops the header fields of a response whose lines end in plain line feeds.
        head = StatusAndHeadersParser(PROTOCOLS).parse(stream)
        status = int(head.get_statuscode())
    except (StatusAndHeadersParserException, EOFError, ValueError) as error:
        raise BadResponse("malformed_response") from error
    kind, charset = content_type(head.get_header("Content-Type") or "")
    coding = head.get_header("Content-Encoding") or ""
    transfer = head.get_header("Transfer-Encoding") or ""
    packed = stream.read()
    # Many crawlers undo the chunks, but keep the header.
    if transfer.strip().lower() == "chunked" and CHUNK.match(packed):
        packed = _join_chunks(packed)
    return Response(status, kind, charset, coding.strip().lower(), packed)


def _join_chunks(body: bytes) -> bytes:
    # fastwarc's ChunkedReader takes a body for whole that was cut between two chunks.
    parts: list[bytes] = []
    start = 0
    while line := CHUNK.match(body, start):
        size = int(line[1], 16)
        if not size:
            return b"".join(parts)
        start = line.end() + size
        parts.append(body[line.end() : start])
    raise BadResponse("damaged_body")


def content_type(value: str) -> tuple[str, str | None]:
    """Return the media type in a header field, and the charset if there is one."""
    # A server and its framework may both have written one: "text/html, text/html".
    kind = re.split("[;,]", value)[0].strip().lower()
    charset = CHARSET.search(value)
    return kind, charset[1] if charset else None


def is_html(kind: str, content: bytes) -> bool:
    """Return whether a page is HTML by its media type or, if it has none, by its first bytes."""
    if kind:
        return kind in HTML
    # A byte order mark, and the zeros of UTF-16.
    start = content[:HEAD].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xfe\xff \t\r\n\f")
    return bool(START.match(start))


def decode_page(content: bytes, charset: str | None = None) -> str | None:
    """Decode a page, or return None.

    A byte order mark decides, then UTF-8, then the declarations of the server and of the page,
    then a guess by the frequency of letters.
    """
    for mark, name in MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(name, "replace")
    meta = META.search(content[:HEAD])
    declared = (charset, meta[1].decode("ascii") if meta else None)
    # UTF-8 comes before declarations, which are often wrong, because hardly any other text is valid
    # UTF-8. Only UTF-16 and ISO-2022 are valid by chance.
    is_seven_bit = b"\0" in content[:HEAD] or b"\x1b$" in content
    labels = (*declared, "utf-8") if is_seven_bit else ("utf-8", *declared)
    for label in labels:
        codec = _codec(label, content)
        if codec == "cp1252":
            # The default of many servers, also for pages in other scripts.
            codec = _other_script(content) or codec
        text = _decode_strictly(content, codec)
        if text is not None:
            return text
    text = content.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    right = sum(map(len, NOT_ASCII.findall(text)))
    if wrong <= WRONG * (right + wrong):
        return text
    guessed = _decode_strictly(content, _guess(content))
    if guessed is None and wrong <= WRONG * len(text):
        # A few letters in a page of ASCII are too few to guess by; browsers take windows-1252
        # (WHATWG HTML §13.2.3.2).
        return _decode_strictly(content, "cp1252")
    return guessed


def _guess(content: bytes) -> str | None:
    # resiliparse's own detection takes Korean for UTF-8.
    label = cchardet.detect(content)["encoding"]
    return _codec("windows-949" if label == "UHC" else label, content)


def _other_script(content: bytes) -> str | None:
    """Return the encoding of a page that has whole words of letters beyond ASCII, or None."""
    runs = RUN.findall(content)
    size = sum(map(len, runs))
    if size < RUN_BYTES or size < MEAN_RUN * len(runs):
        return None
    guess = _guess(content)
    is_other = guess not in WESTERN and _decode_strictly(content, guess) is not None
    return guess if is_other else None


def _codec(label: str | None, content: bytes) -> str | None:
    """Return Python's name of an encoding by its label on the web (WHATWG Encoding §4.2), or None.

    Python itself has codecs such as zlib, too, and takes iso-8859-1 at its word.
    """
    name = map_encoding_to_html5(label, fallback_utf8=False) if label else None
    if name and name.startswith("utf-16") and b"\0" not in content[:HEAD]:
        # A page that can declare UTF-16 in plain letters is not in it (WHATWG HTML §13.2.3.2).
        return None
    return CODECS.get(name or "", name)


def _decode_strictly(content: bytes, name: str | None) -> str | None:
    try:
        return content.decode(name) if name else None
    except UnicodeDecodeError:
        return None
