"""A web page from what a server sent: the HTTP response taken apart, unpacked in bounded memory,
decoded to text.
"""

import codecs
import re
import zlib
from dataclasses import dataclass
from io import BytesIO

import cchardet
from warcio.bufferedreaders import ChunkedDataReader
from warcio.statusandheaders import StatusAndHeadersParser, StatusAndHeadersParserException

PROTOCOLS = ["HTTP/1.0", "HTTP/1.1", "HTTP/2", "HTTP/3"]
HTML = ("text/html", "application/xhtml+xml")
STARTS = (b"<!doctype html", b"<html", b"<head", b"<body", b"<?xml", b"<!--")
META = re.compile(
    rb"<meta[^>]{0,400}?charset\s*=\s*[\"']?\s*([A-Za-z0-9_:.-]{2,40})", re.IGNORECASE
)
HEAD = 4096  # where a page says its encoding, at the latest
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
KNOWN = {
    *(
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
    ),
    *(
        "iso2022_jp",
        "euc_kr",
        "cp949",
        "koi8-r",
        "koi8-u",
        "mac-roman",
        "mac-cyrillic",
        "cp866",
        "cp874",
    ),
    *(f"cp125{number}" for number in range(9)),
    *(f"iso8859-{number}" for number in range(2, 17)),
}
WRONG = 0.1  # a page with one wrong sequence to ten right ones is still UTF-8


class BadResponse(Exception):
    """A response that cannot be used; `reason` is its name in the quarantine."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


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
        """By its Content-Type, or where there is none by its first bytes."""
        return self.kind in HTML if self.kind else self.packed.lstrip().lower().startswith(STARTS)

    def content(self, limit: int) -> bytes:
        """The body with its content coding undone, at most `limit` bytes; a crawler may have undone
        it.
        """
        if self.coding in ("", "identity") or self.packed[:HEAD].lstrip().startswith(b"<"):
            return self.packed
        if self.coding not in ("gzip", "x-gzip", "deflate"):
            raise BadResponse("unknown_coding")
        wbits = (
            47 if "gzip" in self.coding or self.packed[:1] == b"\x78" else -15
        )  # deflate is sent with and without header
        try:
            content = zlib.decompressobj(wbits=wbits).decompress(self.packed, limit + 1)
        except zlib.error as error:
            raise BadResponse("malformed_response") from error
        if len(content) > limit:
            raise BadResponse("expansion")
        return content


def parse_response(body: bytes) -> Response:
    """The response in the body of a WARC record. Raises BadResponse for what is none."""
    stream = BytesIO(body)
    try:
        head = StatusAndHeadersParser(PROTOCOLS).parse(stream)
        status = int(head.get_statuscode())
    except (StatusAndHeadersParserException, EOFError, ValueError) as error:
        raise BadResponse("malformed_response") from error
    kind, _, rest = (head.get_header("Content-Type") or "").partition(";")
    charset = re.search(r"charset\s*=\s*[\"']?([\w:.-]{2,40})", rest, re.IGNORECASE)
    is_chunked = (head.get_header("Transfer-Encoding") or "").strip().lower() == "chunked"
    return Response(
        status=status,
        kind=kind.strip().lower(),
        charset=charset[1] if charset else None,
        coding=(head.get_header("Content-Encoding") or "").strip().lower(),
        packed=ChunkedDataReader(stream).read() if is_chunked else stream.read(),
    )


def decode_page(content: bytes, charset: str | None = None) -> str | None:
    """The text of a page, or None: by its byte order mark, as UTF-8, by the server's word, its own,
    or its letters.

    UTF-8 comes before what is declared, for hardly any other text is valid UTF-8 and declarations
    are often wrong."""
    for mark, name in MARKS:
        if content.startswith(mark):
            return content[len(mark) :].decode(name, "replace")
    meta = META.search(content[:HEAD])
    declared = (charset, meta[1].decode("ascii") if meta else None)
    is_seven_bit = (
        b"\0" in content[:HEAD] or b"\x1b$" in content
    )  # UTF-16, ISO-2022: valid UTF-8, but not meant so
    for label in (*declared, "utf-8") if is_seven_bit else ("utf-8", *declared):
        text = _strictly(content, _codec(label, content))
        if text is not None:
            return text
    text = content.decode("utf-8", "replace")
    wrong = text.count("\ufffd")
    if wrong <= WRONG * (sum(map(len, re.findall(r"[^\x00-\x7f\ufffd]+", text))) + wrong):
        return text
    guess = _strictly(content, _codec(cchardet.detect(content)["encoding"], content))
    # A few letters in a page of ASCII are too few to guess by; browsers take windows-1252 (WHATWG
    # HTML §13.2.3.2).
    return _strictly(content, "cp1252") if guess is None and wrong <= WRONG * len(text) else guess


def _codec(label: str | None, content: bytes) -> str | None:
    """Python's name of an encoding that pages have; no other of its codecs may be asked for by a
    page.
    """
    try:
        name = codecs.lookup(label).name if label else ""
    except (LookupError, ValueError):
        return None
    name = LATIN.get(name, name)
    if name.startswith("utf-16") and b"\0" not in content[:HEAD]:
        return None  # a page that can say so in plain letters is not in it (WHATWG HTML §13.2.3.2)
    return name if name in KNOWN else None


def _strictly(content: bytes, name: str | None) -> str | None:
    try:
        return content.decode(name) if name else None
    except UnicodeDecodeError:
        return None
