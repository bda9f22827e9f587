"""Names and digests that came from elsewhere, before anybody joins them to a folder: a remote is not to be trusted."""

import re
from typing import Any

MD5 = re.compile(r"[0-9a-f]{32}")
SHA256 = re.compile(r"[0-9a-f]{64}")
NAME_BYTES = 255  # the longest name of a file that common file systems take


def is_inside(name: Any) -> bool:
    """Whether a name stays in the folder it is joined to: no `..`, no root, no NUL, no backslash, no empty part."""
    if not isinstance(name, str) or "\0" in name or "\\" in name:
        return False
    try:
        parts = [part.encode() for part in name.split("/")]
    except UnicodeEncodeError:
        return False
    return all(0 < len(part) <= NAME_BYTES and part not in (b".", b"..") for part in parts)


def is_digest(value: Any, pattern: re.Pattern[str] = MD5) -> bool:
    """Whether a value is a digest in hexadecimal, an md5 unless told otherwise."""
    return isinstance(value, str) and bool(pattern.fullmatch(value))
