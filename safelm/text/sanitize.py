"""What is done to whole texts of strangers, each in a time that grows with the length of the text
and no faster.
"""

import re
import unicodedata

ROUNDS = 8  # of taking out without a trace; a text that still forms something then was made to
STRETCH = re.compile(r"(?s:.{0,1000}\s)|\S{1,1000}")


def remove_matches(pattern: re.Pattern[str], text: str, gap: str) -> tuple[str, int]:
    """(a text in which the pattern finds nothing, also where taking something out forms another;
    how many were taken).

    Repeating that until nothing changes would take a round for each level of nesting. So from
    ROUNDS on a `gap`, a character that no match holds, stays where a match was, and nothing forms
    across it."""
    taken = 0
    for number in range(ROUNDS + 1):
        text, count = pattern.subn("" if number < ROUNDS else gap, text)
        taken += count
        if not count:
            break
    return text, taken


def normalize_nfkc(text: str) -> str:
    """The text in NFKC (Unicode annex 15), in stretches: Python puts a row of n accents in order in
    n² steps.
    """
    return (
        text
        if text.isascii()
        else STRETCH.sub(lambda found: unicodedata.normalize("NFKC", found[0]), text)
    )
