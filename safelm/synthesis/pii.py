"""Personal data and secrets in a text, by rule: e-mail addresses, phone and card numbers, SSNs, IP
addresses, keys.

Rules find forms, not people: names and addresses of houses are not found. They see through
full-width letters, HTML entities, invisible characters, capitals and the usual disguises of an
e-mail ("bob [at] corp (dot) com")."""

import html
import ipaddress
import re
from collections.abc import Callable, Iterator

from safelm.text.sanitize import compatible

ENDLESS = re.compile(
    r"&#\d{1000,}"
)  # no character has such a number, and Python reads none above 4,300 digits
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")

# A plain sign touches both its neighbours. Apart it stands, alike on both sides, only before an
# ending that is known: "by @nasa. The rocket" and "see you @ lunch. Then" are no addresses.
_AT, _APART_AT = r"(?:@|\s*[\[({<]\s*(?:at|@)\s*[\])}>]\s*)", r"(?:@\s*|\s+@\s+)"
_DOT = r"(?:\.|\s*[\[({<]\s*(?:dot|\.)\s*[\])}>]\s*)"
_APART_DOT = rf"(?:{_DOT}|\s\.\s)"
_LABEL = r"[^\W_](?:[\w-]*[^\W_])?"
_ENDING = (
    r"(?:com|org|net|edu|gov|mil|int|info|biz|name|dev|app|io|ai|co|eu|uk|us|ca|au|de|fr|es|it|nl|se|pl|ch|at|jp|cn"
    r"|ru|br|nz|ie|dk|fi|cz|gr|pt|mx|kr|za)"
)
AT, NEAR = re.compile(r"@|\bat\b", re.IGNORECASE), 80
EMAIL = re.compile(
    rf"[\w.+%'-]*\w{_AT}{_LABEL}(?:{_DOT}{_LABEL}){{0,4}}{_DOT}[^\W\d_]{{2,24}}\b"
    rf"|[\w.+%'-]*\w{_APART_AT}{_LABEL}(?:{_APART_DOT}{_LABEL}){{0,4}}{_APART_DOT}{_ENDING}\b"
    rf"|\b[\w.+-]+\s+at\s+{_LABEL}(?:\s+dot\s+{_LABEL}){{0,4}}\s+dot\s+{_ENDING}\b"
    rf"|\b[\w+-]+\s+dot\s+[\w+-]+\s+at\s+{_LABEL}(?:(?:\s+dot\s+|\.){_LABEL}){{0,4}}(?:\s+dot\s+|\.){_ENDING}\b",
    re.IGNORECASE,
)

PHONE = re.compile(
    r"(?<![\w+.,/-])(?:"
    r"\+\d{1,3}(?:[ .\-\u2010-\u2013/]?\(?\d{1,5}\)?){2,6}"  # +44 20 7946 0958
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .\-\u2010-\u2013])\d{3}[ .\-\u2010-\u2013]\d{4}"  # (212) 555-0147
    r"|\(?0\d{1,4}\)?(?:[ /\-\u2010-\u2013]\d{2,8}){1,4}"  # 020 7946 0958, 030/1234567
    r")(?![\w-]|[.,]\d)"
)
CALLED = re.compile(
    r"(?<![\w-])(?:phone|tel|telephone|mobile|cell|call|fax|whatsapp)\b\D{0,20}(\+?\d[\d ().-]{5,18}\d)\b",
    re.I,
)
DATE = re.compile(
    r"(?<!\d)(?:(?:[0-2]?\d|3[01])([ ./-])(?:0?\d|1[0-2])\1(?:1\d|20)\d\d"
    r"|(?:1\d|20)\d\d([ ./-])(?:0?\d|1[0-2])\2(?:[0-2]?\d|3[01]))(?!\d)"
)
GROUPS = re.compile(r"(?<![\w./-])\d++(?!\w|\.\d)(?:[ -]\d++(?!\w|\.\d))*(?!-)")
PRINTED = {
    (4, 4, 4, 4),
    (4, 4, 4, 4, 3),
    (4, 4, 4, 3),
    (4, 4, 4, 2),
    (4, 6, 5),
    (4, 6, 4),
}  # digits of each group
LONGEST = 19  # digits of a card
ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3[068]\d{12}|35\d{14}|6\d{15,18}"
)
SSN = re.compile(
    r"(?<![\w-])(?!000|666|9)\d{3}([- \u2010-\u2013])(?!00)\d{2}\1(?!0000)\d{4}(?![\w-])"
)
SSN_NAMED = re.compile(
    r"\b(?:ssn|social security(?: number| no)?)\b\D{0,20}(?!000|666|9)\d{3}[- ]?\d{2}[- ]?\d{4}\b",
    re.I,
)
IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
IPV6 = re.compile(
    r"(?<![\w:.])(?=[0-9a-f.]*:[0-9a-f.]*:)[0-9a-f:.]{1,44}[0-9a-f:](?![\w:])", re.IGNORECASE
)
VERSION = re.compile(
    r"(?:§|\b(?:version|v|release|firmware|build|section|sec|chapter|ch|clause|article|part|figure|fig|table))[ .:]*$",
    re.IGNORECASE,
)
KEY = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_\w{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}"
    r"|\b(?:sk|pk|rk)[-_](?:live|test|ant|proj)?[-_]?[\w-]{20,}"
    r"|\bxox[abeprs]-[\w-]{10,}|\bAIza[\w-]{35}|\bya29\.[\w-]{20,}|\bhf_[A-Za-z0-9]{30,}|\bnpm_[A-Za-z0-9]{30,}"
    r"|\bSG\.[\w-]{16,}\.[\w-]{16,}|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
    r"|-----BEGIN (?:[A-Z]+ )*PRIVATE KEY"
)
SECRET = re.compile(
    r"\b(?:api[ _-]?key|secret(?:[ _-]?(?:key|access[ _-]?key))?|access[ _-]?(?:key|token)|auth[ _-]?token|token"
    r"|password|passwd|pwd|private[ _-]?key)\b[\"']?\s*(?:[:=]|\bis\b)\s*[\"']?([^\s\"',;]{8,})",
    re.IGNORECASE,
)


def plain(text: str) -> str:
    """A text in which letters in other shapes, entities and invisible characters are what they look
    like.
    """
    if text.isascii() and "&" not in text:
        return text
    return INVISIBLE.sub("", compatible(html.unescape(ENDLESS.sub("", text))))


def pii_kinds(text: str) -> list[str]:
    """The kinds of personal data that a text holds, in the order of the table KINDS."""
    text = plain(text)
    return [kind for kind, find in KINDS.items() if next(find(text), None)]


def _emails(text: str) -> Iterator[str]:
    """Looked for around at signs and words "at" alone: over a whole text the pattern would be slow."""
    start = end = 0
    for sign in AT.finditer(text):
        if sign.start() - NEAR > end:
            yield from (found[0] for found in EMAIL.finditer(text, start, end))
            start = sign.start() - NEAR
        end = sign.end() + NEAR
    yield from (found[0] for found in EMAIL.finditer(text, start, end))


def _phones(text: str) -> Iterator[str]:
    for found in PHONE.finditer(text):
        digits = sum(letter.isdigit() for letter in found[0])
        if (9 if found[0][0] in "(0" else 8) <= digits <= 15 and not _is_date(found[0]):
            yield found[0]
    for found in CALLED.finditer(text):
        if sum(map(str.isdigit, found[1])) >= 7 and not _is_date(found[1]):
            yield found[1]


def _is_date(words: str) -> bool:
    """Whether groups of digits hold a date such as 01-02-2024 or 02 12 1999, alone or with a time
    or another date.
    """
    return "+" not in words and DATE.search(words) is not None


def _cards(text: str) -> Iterator[str]:
    for found in GROUPS.finditer(text):
        yield from (
            digits
            for digits in _numbers(re.split("[ -]", found[0]))
            if ISSUED.fullmatch(digits) and luhn(digits)
        )


def _numbers(groups: list[str]) -> Iterator[str]:
    """What groups in a row may be as one number: all of them; or a few, in a layout that is
    printed, beside others.
    """
    if len(groups) <= LONGEST:
        yield "".join(groups)
    yield from groups
    sizes = tuple(map(len, groups))
    for first in range(len(groups)):
        for layout in PRINTED:
            if sizes[first : first + len(layout)] == layout:
                yield "".join(groups[first : first + len(layout)])


def luhn(digits: str) -> bool:
    """Whether the last digit is the check digit of the others (ISO/IEC 7812-1, annex B)."""
    doubled = (int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 * (value > 9) for value in doubled) % 10 == 0


def _ssns(text: str) -> Iterator[str]:
    yield from (found[0] for found in SSN.finditer(text))
    yield from (found[0] for found in SSN_NAMED.finditer(text))


def _ipv4s(text: str) -> Iterator[str]:
    for found in IPV4.finditer(text):
        if _is_address(found[0]) and not VERSION.search(
            text, max(0, found.start() - 12), found.start()
        ):
            yield found[0]


def _ipv6s(text: str) -> Iterator[str]:
    """Four hexadecimal groups, or an abbreviation that begins as real networks do: `add::bad` is
    none.
    """
    for found in IPV6.finditer(text):
        groups = [group for group in found[0].split(":") if group]
        begins = bool(groups) and re.match(
            r"(?:[23][0-9a-f]{3}|f[cde][0-9a-f]{2})$", groups[0], re.IGNORECASE
        )
        if (begins or len(groups) > 3) and _is_address(found[0]) and re.search(r"\d", found[0]):
            yield found[0]


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _keys(text: str) -> Iterator[str]:
    yield from (found[0] for found in KEY.finditer(text))
    for found in SECRET.finditer(text):
        if re.search(r"\d", found[1]) and re.search(r"[A-Za-z]", found[1]):
            yield found[1]


KINDS: dict[str, Callable[[str], Iterator[str]]] = {
    "email": _emails,
    "phone": _phones,
    "card": _cards,
    "ssn": _ssns,
    "ipv4": _ipv4s,
    "ipv6": _ipv6s,
    "key": _keys,
}
