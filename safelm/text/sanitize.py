"""Linear-time clean-up of untrusted text."""

import re
import unicodedata

# The rounds in which nothing takes the place of a match. Only a crafted text has matches after so
# many.
ROUNDS = 8
# At most 1000 characters, up to white space if there is any.
STRETCH = re.compile(r"(?s:.{0,1000}\s)|\S{1,1000}")


def remove_matches(pattern: re.Pattern[str], text: str, gap: str) -> tuple[str, int]:
    """Remove every match of a pattern, including those that form when others are removed.

    Args:
        pattern: the pattern.
        text: any text.
        gap: a character that no match contains.

    Returns:
        The text and the number of matches.
    """
    removed = 0
    for number in range(ROUNDS + 1):
        # Each level of nesting takes a round. In the last round a gap replaces each match, so that
        # no new match can form across it and the time stays linear.
        replacement = "" if number < ROUNDS else gap
        text, count = pattern.subn(replacement, text)
        removed += count
        if not count:
            break
    return text, removed


def normalize_nfkc(text: str) -> str:
    """Normalize a text to NFKC (Unicode annex 15)."""
    if text.isascii():
        return text
    # Python sorts a run of n combining characters in n² steps, so no stretch may be long.
    return STRETCH.sub(lambda match: unicodedata.normalize("NFKC", match[0]), text)
