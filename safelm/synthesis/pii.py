"""Personal data and secrets: e-mail and IP addresses, numbers, keys, passwords.

The numbers are those of phones, cards, bank accounts (IBAN) and SSNs. Patterns find candidates;
phonenumbers and python-stdnum decide. Names and street addresses have no form that a rule could
match. Disguises are seen through: full-width letters, HTML entities, invisible characters, and
e-mail addresses such as "bob [at] corp (dot) com". Addresses and keys are own code: DataTrove's
PIIFormatter finds plain e-mail and public IPv4 addresses alone.
"""

import html
import ipaddress
import re
from collections.abc import Callable, Iterator

import phonenumbers
from phonenumbers import PhoneNumberType
from stdnum import iban, isbn, luhn
from stdnum.us import ssn

from safelm.text.sanitize import normalize_nfkc

# html.unescape() would fail: Python reads no integer of more than 4,300 digits.
ENDLESS_ENTITY = re.compile(r"&#\d{1000,}")
INVISIBLE = re.compile("[\u00ad\u200b-\u200f\u2060-\u2064\ufeff]")

# An @ between spaces counts only before a known ending: "by @nasa. The rocket" and
# "see you @ lunch. Then" hold no addresses.
_AT = r"(?:@|\s*[\[({<]\s*(?:at|@)\s*[\])}>]\s*)"
_SPACED_AT = r"(?:@\s*|\s+@\s+)"
_DOT = r"(?:\.|\s*[\[({<]\s*(?:dot|\.)\s*[\])}>]\s*)"
_SPACED_DOT = rf"(?:{_DOT}|\s\.\s)"
_LABEL = r"[^\W_](?:[\w-]*[^\W_])?"
_ENDING = (
    r"(?:com|org|net|edu|gov|mil|int|info|biz|name|dev|app|io|ai|co|eu|uk|us|ca|au|de|fr|es|it|nl"
    r"|se|pl|ch|at|jp|cn|ru|br|nz|ie|dk|fi|cz|gr|pt|mx|kr|za)"
)
EMAIL = re.compile(
    rf"[\w.+%'-]*\w{_AT}{_LABEL}(?:{_DOT}{_LABEL}){{0,4}}{_DOT}[^\W\d_]{{2,24}}\b"
    rf"|[\w.+%'-]*\w{_SPACED_AT}{_LABEL}(?:{_SPACED_DOT}{_LABEL}){{0,4}}{_SPACED_DOT}{_ENDING}\b"
    rf"|\b[\w.+-]+\s+at\s+{_LABEL}(?:\s+dot\s+{_LABEL}){{0,4}}\s+dot\s+{_ENDING}\b"
    rf"|\b[\w+-]+\s+dot\s+[\w+-]+\s+at\s+{_LABEL}(?:(?:\s+dot\s+|\.){_LABEL}){{0,4}}"
    rf"(?:\s+dot\s+|\.){_ENDING}\b",
    re.IGNORECASE,
)
AT_SIGN = re.compile(r"@|\bat\b", re.IGNORECASE)
NEAR_AT = 80  # characters before and after an at sign that are searched for the address

PHONE = re.compile(
    r"(?<![\w+.,/-])(?:"
    # +44 20 7946 0958
    r"\+\d{1,3}(?:[ .\-\u2010-\u2013/]?\(?\d{1,5}\)?){2,6}"
    # (212) 555-0147
    r"|(?:1[ .-])?(?:\(\d{3}\) ?|\d{3}[ .\-\u2010-\u2013])\d{3}[ .\-\u2010-\u2013]\d{4}"
    # 020 7946 0958, 030/1234567
    r"|\(?0\d{1,4}\)?(?:[ /\-\u2010-\u2013]\d{2,8}){1,4}"
    r")(?![\w-]|[.,]\d)"
)
PHONE_NAMED = re.compile(
    r"(?<![\w-])(?:phone|tel|telephone|mobile|cell|call|fax|whatsapp)\b"
    r"\D{0,20}(\+?\d[\d ().-]{5,18}\d)\b",
    re.IGNORECASE,
)
# Countries whose numbers begin with 0 at home; a number is one if it is valid in any of them.
MIN_ZERO_DIGITS = 9
ZERO_REGIONS = ("GB", "DE", "FR", "AU", "NL", "IE", "NZ", "IN", "JP", "ZA")
# Numbers of services, and the words beside the number of a help line: nobody's own.
SERVICES = {
    PhoneNumberType.TOLL_FREE,
    PhoneNumberType.SHARED_COST,
    PhoneNumberType.PREMIUM_RATE,
    PhoneNumberType.UAN,
}
HELP_LINE = re.compile(
    r"\b(?:help|hot|life|child|crisis|support|advice|text)[ -]?lines?\b|\bsamaritans\b"
    r"|\btoll[ -]free\b|\bpoison control\b",
    re.IGNORECASE,
)
NEAR_NUMBER = 80  # characters before and after a number that name a help line
# Day, month and year in both orders, and month and year: phone numbers have the same groups.
DATE = re.compile(
    r"(?<!\d)(?:(?:[0-2]?\d|3[01])([ ./-])(?:0?\d|1[0-2])\1(?:1\d|20)\d\d"
    r"|(?:1\d|20)\d\d([ ./-])(?:0?\d|1[0-2])\2(?:[0-2]?\d|3[01])"
    r"|(?:0?[1-9]|1[0-2])/(?:19|20)\d\d)(?!\d)"
)
COORDINATE = re.compile(r"\+?\d{1,3}\.\d{3,}")
DIGIT_GROUPS = re.compile(r"(?<![\w./-])\d++(?!\w|\.\d)(?:[ -]\d++(?!\w|\.\d))*(?!-)")
# The digits of each group, as they are printed on cards.
CARD_LAYOUTS = {(4, 4, 4, 4), (4, 4, 4, 4, 3), (4, 4, 4, 3), (4, 4, 4, 2), (4, 6, 5), (4, 6, 4)}
MAX_CARD_DIGITS = 19
# The ranges of the issuers: Visa, Mastercard, American Express, Diners Club, JCB, and Discover,
# UnionPay and Maestro under 6.
ISSUED = re.compile(
    r"4(?:\d{12}|\d{15}|\d{18})|(?:5[1-5]|2[2-7])\d{14}|3[47]\d{13}|3[068]\d{12}|35\d{14}"
    r"|6\d{15,18}"
)
IBAN = re.compile(r"\b[A-Z]{2}\d\d(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?\b")
SSN = re.compile(r"(?<![\w-])\d{3}([- \u2010-\u2013])\d{2}\1\d{4}(?![\w-])")
SSN_NAMED = re.compile(
    r"\b(?:ssn|social security(?: number| no)?)\b\D{0,20}(\d{3}[- ]?\d{2}[- ]?\d{4})\b",
    re.IGNORECASE,
)
# Five numbers with dots are a version or a section, not an address.
IPV4 = re.compile(r"(?<![\w.])(?:\d{1,3}\.){3}\d{1,3}(?![\w]|\.\d)")
IPV6 = re.compile(
    r"(?<![\w:.])(?=[0-9a-f.]*:[0-9a-f.]*:)[0-9a-f:.]{1,44}[0-9a-f:](?![\w:])", re.IGNORECASE
)
# Global unicast, unique local and link-local addresses (RFC 4291, RFC 4193).
IPV6_START = re.compile(r"(?:[23][0-9a-f]{3}|f[cde][0-9a-f]{2})$", re.IGNORECASE)
VERSION = re.compile(
    r"(?:§|\b(?:version|v|release|firmware|build|section|sec|chapter|ch|clause|article|part|figure"
    r"|fig|table))[ .:]*$",
    re.IGNORECASE,
)
# Prefixes of AWS; GitHub, GitLab; Stripe, OpenAI, Anthropic; Slack, Google; Hugging Face, npm;
# SendGrid, JSON web tokens; PEM files.
KEY = re.compile(
    r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"
    r"|\bgh[pousr]_\w{30,}|\bgithub_pat_\w{30,}|\bglpat-[\w-]{20,}"
    r"|\b(?:sk|pk|rk)[-_](?:live|test|ant|proj)?[-_]?[\w-]{20,}"
    r"|\bxox[abeprs]-[\w-]{10,}|\bAIza[\w-]{35}|\bya29\.[\w-]{20,}|\bhf_[A-Za-z0-9]{30,}"
    r"|\bnpm_[A-Za-z0-9]{30,}"
    r"|\bSG\.[\w-]{16,}\.[\w-]{16,}|(?<![\w-])eyJ[\w-]{8,}\.[\w-]{8,}\.[\w-]{8,}"
    r"|-----BEGIN (?:[A-Z]+ )*PRIVATE KEY"
)
SECRET = re.compile(
    r"\b(?:api[ _-]?key|secret(?:[ _-]?(?:key|access[ _-]?key))?|access[ _-]?(?:key|token)"
    r"|auth[ _-]?token|token"
    r"|password|passwd|pwd|private[ _-]?key)\b"
    r"[\"']?\s*(?:[:=]|\bis\b)\s*[\"']?([^\s\"',;]{8,})",
    re.IGNORECASE,
)


def pii_kinds(text: str) -> list[str]:
    """Return the kinds of personal data in a text, in the order of KINDS."""
    text = plain_text(text)
    return [kind for kind, find in KINDS.items() if next(find(text), None)]


def plain_text(text: str) -> str:
    """Decode HTML entities, normalise letters to NFKC, and drop invisible characters."""
    if text.isascii() and "&" not in text:
        return text
    return INVISIBLE.sub("", normalize_nfkc(html.unescape(ENDLESS_ENTITY.sub("", text))))


def _matches(pattern: re.Pattern[str], text: str, *span: int) -> Iterator[str]:
    return (match[0] for match in pattern.finditer(text, *span))


def _emails(text: str) -> Iterator[str]:
    # Only near at signs and the word "at": the pattern is slow on a whole text.
    start = end = 0
    for sign in AT_SIGN.finditer(text):
        # Stretches that overlap are searched as one, lest an address is cut.
        if sign.start() - NEAR_AT > end:
            yield from _matches(EMAIL, text, start, end)
            start = sign.start() - NEAR_AT
        end = sign.end() + NEAR_AT
    yield from _matches(EMAIL, text, start, end)


def _phones(text: str) -> Iterator[str]:
    for match in PHONE.finditer(text):
        if _is_phone(match[0]) and _is_private(match, 0):
            yield match[0]
    for match in PHONE_NAMED.finditer(text):
        digits = sum(map(str.isdigit, match[1]))
        if digits >= 7 and not _has_other_meaning(match[1]) and _is_private(match, 1):
            yield match[1]


def _is_phone(number: str) -> bool:
    if _has_other_meaning(number):
        return False
    if number[0] == "+":
        return _parsed(number, None) is not None
    if number[0] == "0" or number.startswith("(0"):
        if sum(map(str.isdigit, number)) < MIN_ZERO_DIGITS:
            return False
        parsed = (_parsed(number, region) for region in ZERO_REGIONS)
        return any(phone and phonenumbers.is_valid_number(phone) for phone in parsed)
    return True  # the pattern is that of North America


def _has_other_meaning(number: str) -> bool:
    """Tell whether a number is a coordinate or an ISBN, or contains a date."""
    if "+" not in number and DATE.search(number):
        return True
    return bool(COORDINATE.fullmatch(number)) or isbn.is_valid(number)


def _is_private(match: re.Match[str], group: int) -> bool:
    """Tell whether a number may be that of a person: not of a service, nor beside a help line."""
    phone = _parsed(match[group], "US")
    if phone and phonenumbers.number_type(phone) in SERVICES:
        return False
    low = max(0, match.start() - NEAR_NUMBER)
    return not HELP_LINE.search(match.string, low, match.end() + NEAR_NUMBER)


def _parsed(number: str, region: str | None) -> phonenumbers.PhoneNumber | None:
    try:
        phone = phonenumbers.parse(number, region)
    except phonenumbers.NumberParseException:
        return None
    return phone if phonenumbers.is_possible_number(phone) else None


def _cards(text: str) -> Iterator[str]:
    for match in DIGIT_GROUPS.finditer(text):
        for digits in _card_candidates(re.split("[ -]", match[0])):
            # One in ten numbers has a right check digit by chance, so the issuer counts too.
            if ISSUED.fullmatch(digits) and luhn.is_valid(digits):
                yield digits


def _card_candidates(groups: list[str]) -> Iterator[str]:
    """Yield all groups as one number, each group alone, and runs of groups in a card's layout."""
    if len(groups) <= MAX_CARD_DIGITS:
        yield "".join(groups)
    yield from groups
    sizes = tuple(map(len, groups))
    for first in range(len(groups)):
        for layout in CARD_LAYOUTS:
            last = first + len(layout)
            if sizes[first:last] == layout:
                yield "".join(groups[first:last])


def _ibans(text: str) -> Iterator[str]:
    return filter(iban.is_valid, _matches(IBAN, text))


def _ssns(text: str) -> Iterator[str]:
    numbers = [*_matches(SSN, text), *(match[1] for match in SSN_NAMED.finditer(text))]
    return (number for number in numbers if ssn.is_valid(re.sub(r"\D", "", number)))


def _ipv4s(text: str) -> Iterator[str]:
    for match in IPV4.finditer(text):
        start = match.start()
        is_version = VERSION.search(text, max(0, start - 12), start)
        if _is_address(match[0]) and not is_version:
            yield match[0]


def _ipv6s(text: str) -> Iterator[str]:
    """Yield addresses of four or more groups, or with the start of a known network."""
    # `add::bad` is a valid address too, but more likely code.
    for match in IPV6.finditer(text):
        groups = [group for group in match[0].split(":") if group]
        has_known_start = bool(groups) and IPV6_START.match(groups[0])
        is_likely = len(groups) > 3 or has_known_start
        if is_likely and _is_address(match[0]) and re.search(r"\d", match[0]):
            yield match[0]


def _is_address(text: str) -> bool:
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return False
    return not (address.is_loopback or address.is_unspecified)


def _keys(text: str) -> Iterator[str]:
    yield from _matches(KEY, text)
    # A word behind "password:" may be prose; one with letters and digits hardly.
    for match in SECRET.finditer(text):
        if re.search(r"\d", match[1]) and re.search(r"[A-Za-z]", match[1]):
            yield match[1]


KINDS: dict[str, Callable[[str], Iterator[str]]] = {
    "email": _emails,
    "phone": _phones,
    "card": _cards,
    "iban": _ibans,
    "ssn": _ssns,
    "ipv4": _ipv4s,
    "ipv6": _ipv6s,
    "key": _keys,
}
