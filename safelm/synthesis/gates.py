"""What a written text must pass before it may train a model; each gate is a name in the ledger, its
bounds params.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from safelm.llm.request import CONTROL, Answer
from safelm.synthesis.pii import pii_kinds
from specs.tokens import TAG

SLOT = re.compile(r"\{\w*\}|\[\w[^\]\n]{0,99}\|[^\]\n]{0,99}\]")
START = 240  # characters in which a refusal or a preamble stands
WORD = re.compile(r"[^\W\d_]+(?:['’][^\W\d_]+)?")
LANGUAGE_WORDS = 20  # words from which on their share tells a language


def _pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE | re.DOTALL)


# How a speaker declines a request.
_ADVERB = r"(?: (?:really|truly|so|very|just|must|have to|simply|also))*[ ,]+"
DECLINES = _pattern(
    rf"\b(?:i|we)(?:['’]?m| am|['’]re| are)?{_ADVERB}(?:sorry|afraid|unable|not (?:able|going|comfortable|willing)"
    r"|(?:can|could|would|must|should|will|do) ?not|(?:ca|wo|could|would|should|do)n['’]?t|decline|refuse|say no)\b",
    r"\bsorry\b|\bapologi[sz]e\b|\b(?:must|have to) (?:decline|say no)\b|\bthat i won['’]?t\b",
    r"\b(?:that|this|it)(?:['’]s| is) (?:not )?something (?:that )?i\b",
)
# How a model declines the task, at its start.
REFUSAL = _pattern(
    r"^\W*(?:i(?:['’]?m| am) (?:(?:so |very |really )?sorry|unable|not able)|sorry|i apologi[sz]e|unfortunately,? i"
    r"|as an? (?:ai|language model)|i (?:can['’]?t|cannot|can not|won['’]?t|will not|must decline to|do not feel))\b"
    r"(?=.{0,160}\b(?:help|assist|fulfil+|comply|rewrite|rephrase|write|create|generate|provide|produce|continue"
    r"|do (?:that|this)|request|task|content)\b)"
)
# What a model says about the task, or leaves for others to fill in.
_TEXT = r"(?:rewr\w+|rephras\w+|version|article|dialogue|script|text|podcast|transcript|rendition|response|output|page)"
LEFT_OVER = _pattern(
    r"^\W*(?:(?:sure|certainly|of course|absolutely|okay|great)[,!. ]+)?"
    rf"(?:here(?:['’]s| is| are)|below is|this is|i(?:['’]ve| have))\b.{{0,60}}\b{_TEXT}\b[^\n]{{0,80}}:",
    r"\[(?:your |the |insert )?(?:name|title|date|topic|school|place|city|teacher|host)[^\]\n]{0,30}\]",
    r"=== [0-9a-f]{32} ===|\b(?:the|this) (?:document|text|dialogue) (?:above|below)\b|\bthis task\b",
    r"\bas (?:requested|instructed)\b|\b(?:rewritten|rephrased) (?:text|version)\b",
    r"\n[^\w\n]*(?:note|word count)\W[^\n]{0,300}\Z",
)
SAID = re.compile(r"\W{0,3}([\w.'’ -]{1,40}?)\W{0,3}:\W{0,2}\s*(.+)")
ROLE = re.compile(r"(?:User|Assistant|System|Human|AI) ?:", re.IGNORECASE)


@dataclass(frozen=True)
class Bounds:
    """The block `gates` of params.yaml, as plain values."""

    min_words: int  # words
    max_words: int  # words
    max_length_ratio: float  # or this many times the words of the document, where that is more
    ngram: int  # words that count as copied when the document has them in this order
    max_copied_share: float  # the largest share of its n-grams that a text may copy
    min_english_share: float  # the smallest share of function words in a text in English
    max_attempts: int  # how often a text is asked for, at most


@dataclass(frozen=True)
class WrittenText:
    """A written text beside what it was made from."""

    answer: Answer
    source: str
    is_dialogue: bool  # whether a dialogue was asked for, in which a request is declined

    @property
    def text(self) -> str:
        """The text itself."""
        return self.answer.text

    @cached_property
    def words(self) -> list[str]:
        """What white space divides."""
        return self.text.split()


def failed_gate(text: WrittenText, bounds: Bounds, common: frozenset[str]) -> str | None:
    """The name of the first gate that a text does not pass, or None; `common` are the function
    words of English.
    """
    found = next((name for name, fails in GATES.items() if fails(text, bounds)), None)
    if found is None and is_foreign(text.text, bounds.min_english_share, common):
        found = "wrong_language"
    if found is None and (data := pii_kinds(text.text)):
        found = f"pii_{data[0]}"
    return found


def copied(words: list[str], original: list[str], size: int) -> float:
    """The share of a text's n-grams that the original has too."""
    grams = [tuple(words[place : place + size]) for place in range(len(words) - size + 1)]
    known = {tuple(original[place : place + size]) for place in range(len(original) - size + 1)}
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0


def is_foreign(text: str, least: float, common: frozenset[str]) -> bool:
    """Whether a text is not in English: too few of its words are function words, or its letters are
    not Latin.
    """
    words = [word.lower().replace("’", "'") for word in WORD.findall(text)]
    letters = [letter for letter in text if letter.isalpha()]
    if sum(letter < "\u0250" for letter in letters) < 0.8 * len(letters):
        return True
    return len(words) >= LANGUAGE_WORDS and sum(word in common for word in words) < least * len(
        words
    )


def _too_long(text: WrittenText, bounds: Bounds) -> bool:
    return len(text.words) > max(
        bounds.max_words, bounds.max_length_ratio * len(text.source.split())
    )


def _copy(text: WrittenText, bounds: Bounds) -> bool:
    return copied(text.words, text.source.split(), bounds.ngram) > bounds.max_copied_share


def _left_over(text: WrittenText, bounds: Bounds) -> bool:
    return bool(SLOT.search(text.text) or LEFT_OVER.search(text.text)) or (
        not text.is_dialogue and bool(ROLE.match(text.text))
    )


def turns(text: str) -> list[tuple[str, str]] | None:
    """(speaker, words) of each line of a dialogue; None where a line has no speaker."""
    found = [
        re.match(r"\W{0,3}([\w.'’ -]{1,40}?)\W{0,3}:\W{0,2}\s*(.+)", line)
        for line in text.splitlines()
        if line.strip()
    ]
    return None if None in found else [(match[1], match[2]) for match in found if match]


def _no_dialogue(text: WrittenText, bounds: Bounds) -> bool:
    """Two people take turns, the first of whom begins."""
    if not text.is_dialogue:
        return False
    said = turns(text.text)
    if said is None or len(said) < 2:
        return True
    speakers = [speaker for speaker, _ in said]
    return (
        speakers != [speakers[place % 2] for place in range(len(speakers))]
        or speakers[0] == speakers[1]
    )


def _complied(text: WrittenText, bounds: Bounds) -> bool:
    """The second speaker declines somewhere."""
    said = turns(text.text) if text.is_dialogue else None
    return said is not None and not any(DECLINES.search(words) for _, words in said[1::2])


GATES: Mapping[str, Callable[[WrittenText, Bounds], bool]] = {
    "empty": lambda text, bounds: not text.words,
    "cut_off": lambda text, bounds: text.answer.finish == "length",
    "literal_tag": lambda text, bounds: TAG in text.text,
    "control_token": lambda text, bounds: bool(CONTROL.search(text.text)),
    "refusal": lambda text, bounds: not text.is_dialogue and bool(REFUSAL.match(text.text[:START])),
    "left_over": _left_over,
    "too_short": lambda text, bounds: len(text.words) < bounds.min_words,
    "too_long": _too_long,
    "no_dialogue": _no_dialogue,
    "not_declined": _complied,
    "copy_of_input": _copy,
}
