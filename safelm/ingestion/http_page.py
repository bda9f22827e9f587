"""Web pages from HTTP responses: parsing, decompression in bounded memory, and decoding."""

import codecs
import re
import zlib
from dataclasses import dataclass
from io import BytesIO

import cchardet
from warcio.bufferedreaders import ChunkedDataReader
from warcio.statusandheaders import StatusAndHeadersParser, StatusAndHeadersParserException

from safelm.ingestion.errors import BadResponse

PROTOCOLS = ["HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"]
HTML = ("text/html", "application/xhtml+xml")
STARTS = (b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml", b"<!--")
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
# Latin-1 on the web is windows-1252 (WHATWG Encoding Standard §4.2).
LATIN = {
    "ascii": "cp1252",
    "iso8859-1": "cp1252",
    "iso8859-9": "cp1254",
    "tis-620": "cp874",
    "gb2312": "gbk",
}
# The encodings that a page may declare, by Python's names. Python has codecs such as zlib, too.
ENCODINGS = {
    "utf-8",
    "utf-16",
    "utf-16-le",
    "utf-16-be",
    "gbk",
    "gb18030",
    "big5",
    "big5hkscs",
    "euc_jp",
    "shift_jis",
    "cp932",
    "iso2022_jp",
    "euc_kr",
    "cp949",
    "koi8-r",
    "koi8-u",
    "mac-roman",
    "mac-cyrillic",
    "cp866",
    "cp874",
    *(f"cp125{number}" for number in range(9)),
    *(f"iso8859-{number}" for number in range(2, 17)),
}
# A page with one wrong sequence for ten right ones is still UTF-8.
WRONG = 0.1


@dataclass(frozen=True)
class Response:
    """An HTTP response with its transfer coding undone."""

    status: int
    kind: str
    charset: str | None
    coding: str
    packed: bytes

    @property
    def is_html(self) -> bool:
        """Whether it is HTML by its Content-Type or, if there is none, by its first bytes."""
        if self.kind:
            return self.kind in HTML
        return self.packed.lstrip().lower().startswith(STARTS)

    def content(self, limit: int) -> bytes:
        """Return the body with its content coding undone, at most `limit` bytes.

        Raises BadResponse for a body that is damaged, too large or in an unknown coding.
        """
        # Some crawlers undo the coding, but keep the header.
        is_plain = self.packed[:HEAD].lstrip().startswith(b"<")
        if is_plain or self.coding in ("", "identity"):
            return self.packed
        if self.coding not in ("gzip", "x-gzip", "deflate"):
            raise BadResponse("unknown_coding")
        # Servers send deflate with and without a zlib header.
        has_header = "gzip" in self.coding or self.packed[:1] == b"\x78"
        # 47: gzip or zlib by the header; -15: no header (zlib.h, inflateInit2).
        engine = zlib.decompressobj(wbits=47 if has_header else -15)
        try:
            content = engine.decompress(self.packed, limit + 1)
        except zlib.error as error:
            raise BadResponse("malformed_response") from error
        if len(content) > limit:
            raise BadResponse("expansion")
        return content


def parse_response(body: bytes) -> Response:
    """Parse the response in the body of a WARC record; raise BadResponse if it is none."""
    stream = BytesIO(body)
    try:
        head = StatusAndHeadersParser(PROTOCOLS).parse(stream)
        status = int(head.get_statuscode())
    except (StatusAndHeadersParserException, EOFError, ValueError) as error:
        raise BadResponse("malformed_response") from error
    kind, _, rest = (head.get_header("Content-Type") or "").partition(";")
    charset = CHARSET.search(rest)
    coding = head.get_header("Content-Encoding") or ""
    transfer = head.get_header("Transfer-Encoding") or ""
    if transfer.strip().lower() == "chunked":
        stream = ChunkedDataReader(stream)
    return Response(
        status=status,
        kind=kind.strip().lower(),
        charset=charset[1] if charset else None,
        coding=coding.strip().lower(),
        packed=stream.read(),
    )


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
        text = _decode_strictly(content, _codec(label, content))
        if text is not None:
            return text
    text = content.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    right = sum(map(len, NOT_ASCII.findall(text)))
    if wrong <= WRONG * (right + wrong):
        return text
    guess = _codec(cchardet.detect(content)["encoding"], content)
    guessed = _decode_strictly(content, guess)
    if guessed is None and wrong <= WRONG * len(text):
        # A few letters in a page of ASCII are too few to guess by; browsers take windows-1252
        # (WHATWG HTML §13.2.3.2).
        return _decode_strictly(content, "cp1252")
    return guessed


def _codec(label: str | None, content: bytes) -> str | None:
    """Return Python's name of an encoding that pages have, or None."""
    try:
        name = codecs.lookup(label).name if label else ""
    except (LookupError, ValueError):
        return None
    name = LATIN.get(name, name)
    if name.startswith("utf-16") and b"\0" not in content[:HEAD]:
        # A page that can declare UTF-16 in plain letters is not in it (WHATWG HTML §13.2.3.2).
        return None
    return name if name in ENCODINGS else None


def _decode_strictly(content: bytes, name: str | None) -> str | None:
    try:
        return content.decode(name) if name else None
    except UnicodeDecodeError:
        return None
