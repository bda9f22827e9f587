"""Linear-time clean-up of untrusted text."""

import re
import unicodedata

# Rounds that remove matches without a trace. A text that still forms a match after so many was
# crafted to do so.
ROUNDS = 8
# At most 1000 characters, up to white space if there is any.
STRETCH = re.compile(r"(?s:.{0,1000}\s)|\S{1,1000}")


def remove_matches(pattern: re.Pattern[str], text: str, gap: str) -> tuple[str, int]:
    """Remove every match of a pattern, also those that a removal forms, and count them.

    Repeating this until nothing changes would take one round for each level of nesting. After
    ROUNDS rounds a `gap` therefore replaces each match: no match holds that character, so nothing
    forms across it. Returns (text, number of matches).
    """
    removed = 0
    for number in range(ROUNDS + 1):
        text, count = pattern.subn("" if number < ROUNDS else gap, text)
        removed += count
        if not count:
            break
    return text, removed


def normalize_nfkc(text: str) -> str:
    """Normalize a text to NFKC (Unicode annex 15).

    Python sorts a run of n combining characters in n² steps, so the text is normalized in
    stretches.
    """
    if text.isascii():
        return text
    return STRETCH.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
