"""What a written text must pass before it may train a model; each gate is a name in the ledger."""

import re

from safelm.hazards import Hazards

SLOT = re.compile(r"\{\w*\}|\[\w[^\]\n]{0,99}\|[^\]\n]{0,99}\]")
SHORTEST = 12  # words
LONGEST = 120  # words; a longer document may become as long a text as itself
NGRAM = 5  # words that count as copied when the document has them in this order
COPIED = 0.5  # the share of its n-grams that a text may copy


def fault(text: str, source: str, hazards: Hazards, max_score: int) -> str | None:
    """The name of the first gate that a text written from `source` does not pass, or None.

    The text is graded like the web: what the judge puts above `max_score` is not kept. A refusal names the act that it
    declines, which the judge grades 3.
    """
    words, original = text.split(), source.split()
    if not words:
        return "empty"
    if SLOT.search(text):
        return "left_over_slot"
    if len(words) < SHORTEST:
        return "too_short"
    if len(words) > max(LONGEST, len(original)):
        return "too_long"
    if copied(words, original) > COPIED:
        return "copy_of_input"
    if hazards.grade(text).score > max_score:
        return "unsafe_after_writing"
    return None


def copied(words: list[str], original: list[str]) -> float:
    """The share of a text's n-grams that the original has too."""
    grams = [tuple(words[place : place + NGRAM]) for place in range(len(words) - NGRAM + 1)]
    known = {tuple(original[place : place + NGRAM]) for place in range(len(original) - NGRAM + 1)}
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0
