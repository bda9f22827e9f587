"""Quality gates for synthetic texts; a text that fails one is generated again or dropped.

The ledger counts dropped texts by the gate's name. The paper does not report output filters (paper
§2): these are ours, with bounds in the block `gates` of params.yaml.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import eldc

from safelm.llm.engine import Answer
from safelm.llm.fencing import CONTROL
from safelm.synthesis.pii import pii_kinds
from specs.corpus import Gates
from specs.tokens import TAG

# A slot of a template that a model left open: {name}, [boy|girl]. In \frac{1}{2} is none.
SLOT = re.compile(r"(?<![\w\\}])\{\w*\}|\[\w[^\]\n]{0,99}\|[^\]\n]{0,99}\]")
REFUSAL_CHARACTERS = 240  # of the start of a text, where a model refuses its task
# A shorter line, such as a title or a quotation, may be in another language.
LANGUAGE_WORDS = 20


def _pattern(*alternatives: str) -> re.Pattern[str]:
    return re.compile("|".join(alternatives), re.IGNORECASE | re.DOTALL)


# A speaker of a dialogue declines a request.
_ADVERB = r"(?: (?:really|truly|so|very|just|must|have to|simply|also))*[ ,]+"
DECLINES = _pattern(
    rf"\b(?:i|we)(?:['’]?m| am|['’]re| are)?{_ADVERB}"
    r"(?:sorry|afraid|unable|not (?:able|going|comfortable|willing)"
    r"|(?:can|could|would|must|should|will|do) ?not|never"
    r"|(?:ca|wo|could|would|should|do)n['’]?t|decline|refuse|say no)\b",
    r"\bsorry\b|\bapologi[sz]e\b|\b(?:must|have to) (?:decline|say no)\b|\bthat i won['’]?t\b",
    r"\b(?:that|this|it)(?:['’]s| is) (?:not )?something (?:that )?i\b",
    r"\b(?:rather|but) not\b|\bi draw the line\b|^\W*no\b|^\W*let['’]?s not\b",
)
# A model refuses its task at the start of the text.
REFUSAL = _pattern(
    r"^\W*(?:i(?:['’]?m| am) (?:(?:so |very |really )?sorry|unable|not able)|sorry,? (?:but|i)"
    r"|i apologi[sz]e|unfortunately,? i|as an? (?:ai|language model)"
    r"|i (?:can['’]?t|cannot|can not|won['’]?t|will not|must decline to|do not feel))\b"
    r"(?! help (?:but|\w+ing)\b)"
    r"(?=.{0,160}\b(?:help|assist|fulfil+|comply|rewrite|rephrase|write|create|generate|provide"
    r"|produce|continue|do (?:that|this)|request|task|content)\b)"
)
# A model writes about its task, repeats the fence, or leaves a blank such as [your name].
_TEXT = (
    r"(?:rewr\w+|rephras\w+|version|article|dialogue|script|text|podcast|transcript|rendition"
    r"|response|output|page)"
)
LEFT_OVER = _pattern(
    r"^\W*(?:(?:sure|certainly|of course|absolutely|okay|great)[,!. ]+)?"
    r"(?:here(?:['’]s| is| are)|below is|this is|i(?:['’]ve| have))\b"
    rf".{{0,60}}\b{_TEXT}\b[^\n]{{0,80}}:",
    r"\[(?:your |the |insert )?(?:name|title|date|topic|school|place|city|teacher|host)"
    r"[^\]\n]{0,30}\]",
    r"=== [0-9a-f]{32} ===|\b(?:the|this) (?:document|text|dialogue) (?:above|below)\b"
    r"|\b(?:i|instructions?|asked|required)\b[^.\n]{0,60}\bthis task\b",
    r"^.{0,40}\bas (?:requested|instructed)\b|\b(?:rewritten|rephrased) (?:text|version)\b",
    rf"\n[^\w\n]*note\W+(?:i\b|(?:the|this) {_TEXT}\b)[^\n]{{0,300}}\Z"
    r"|\n[^\w\n]*word count\W[^\n]{0,300}\Z",
)
TURN = re.compile(r"\W{0,3}([\w.'’ -]{1,40}?)\W{0,3}:\W{0,2}\s*(.*)")
NAME_WORDS = 3
CHAT_ROLES = frozenset({"user", "assistant"})
ROLE = re.compile(r"(?:User|Assistant|System|Human|AI) ?:", re.IGNORECASE)
HEADING = re.compile(r"\s*(?:#|\*\*[^*\n]+\*\*\s*$|-{3,}\s*$)")
LIST_ITEM = re.compile(r"\s*(?:[-*+•–|]\s*|\d{1,2}[.)]\s)")
# A mark or an emoji ends a sentence; quotation marks, brackets and emphasis may follow.
SENTENCE_END = re.compile(r"[.!?…\u2600-\u27bf\U0001f300-\U0001faff][^\w,;:]*\Z")
# An item of a list needs no mark, but does not end so.
OPEN_ITEM = re.compile(
    r"(?:\b(?:a|an|the|of|to|and|or|with|for|in|on|at|by|from|that|is|are|your)|[,;:(])\W*\Z",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class WrittenText:
    """A synthetic text, and the document it was made from."""

    answer: Answer
    source: str
    is_dialogue: bool  # the prompt wants a dialogue in which a request is declined

    @property
    def text(self) -> str:
        """The text itself."""
        return self.answer.text

    @cached_property
    def words(self) -> list[str]:
        """The words of the text, split at white space."""
        return self.text.split()


def failed_gate(text: WrittenText, bounds: Gates) -> str | None:
    """Return the name of the first gate that a text fails, or None."""
    for name, fails in GATES.items():
        if fails(text, bounds):
            return name
    # Last, because it is a gate of its own for each kind of personal data.
    personal = pii_kinds(text.text)
    return f"pii_{personal[0]}" if personal else None


def copied_share(words: list[str], original: list[str], size: int) -> float:
    """Return the share of a text's n-grams, from 0 to 1, that the original contains."""
    grams = _ngrams(words, size)
    known = set(_ngrams(original, size))
    return sum(gram in known for gram in grams) / len(grams) if grams else 0.0


def _ngrams(words: list[str], size: int) -> list[tuple[str, ...]]:
    shifted = [words[offset:] for offset in range(size)]
    # The shifted lists end one word after another; the n-grams end with the shortest.
    return list(zip(*shifted, strict=False))


def is_english(text: str) -> bool:
    """Tell whether eldc finds no other language in a text, nor in one of its longer lines."""
    long_lines = (line for line in text.splitlines() if len(line.split()) >= LANGUAGE_WORDS)
    # "und" is undetermined: numbers alone, or too few letters.
    return all(_detector().detect(part) in ("en", "und") for part in (text, *long_lines))


@cache
def _detector() -> Any:
    eldc.init()
    return eldc


def dialogue_turns(text: str) -> list[tuple[str, str]] | None:
    """Return (speaker, what they say) for each turn; None if a text opens without a speaker.

    A turn may have several paragraphs, lists and, between User and Assistant, labels such as
    "Help line:". A heading may stand before the first turn.
    """
    turns: list[tuple[str, list[str]]] = []
    for line in text.strip().splitlines():
        turn = TURN.match(line)
        if turn and _is_speaker(turn[1], line, turns):
            if not turns or turns[-1][0] != turn[1]:
                turns.append((turn[1], []))
            line = turn[2]
        if turns:
            turns[-1][1].append(line.rstrip())
        elif line.strip() and not HEADING.match(line):
            return None
    return [(speaker, "\n".join(lines).strip()) for speaker, lines in turns]


def _is_speaker(label: str, line: str, turns: list[tuple[str, list[str]]]) -> bool:
    is_chat = label.lower() in CHAT_ROLES
    if is_chat or (turns and turns[0][0].lower() in CHAT_ROLES):
        return is_chat
    return len(label.split()) <= NAME_WORDS and not LIST_ITEM.match(line)


def _is_cut_off(text: WrittenText, bounds: Gates) -> bool:
    return text.answer.finish == "length"


def _is_unfinished(text: WrittenText, bounds: Gates) -> bool:
    """Tell whether the last line ends within a sentence."""
    line = text.text.rstrip().rpartition("\n")[2]
    if LIST_ITEM.match(line):
        return bool(OPEN_ITEM.search(line))
    return not SENTENCE_END.search(line)


def _is_refusal(text: WrittenText, bounds: Gates) -> bool:
    return not text.is_dialogue and bool(REFUSAL.match(text.text[:REFUSAL_CHARACTERS]))


def _has_left_over(text: WrittenText, bounds: Gates) -> bool:
    if SLOT.search(text.text) or LEFT_OVER.search(text.text):
        return True
    return not text.is_dialogue and bool(ROLE.match(text.text))


def _is_too_long(text: WrittenText, bounds: Gates) -> bool:
    # Short documents may grow beyond the ratio, up to `max_words`.
    relative = bounds.max_length_ratio * len(text.source.split())
    return len(text.words) > max(bounds.max_words, relative)


def _is_no_dialogue(text: WrittenText, bounds: Gates) -> bool:
    """Tell whether the prompt wants a dialogue, but there are not two speakers."""
    if not text.is_dialogue:
        return False
    return len({speaker for speaker, _ in dialogue_turns(text.text) or ()}) != 2


def _is_not_declined(text: WrittenText, bounds: Gates) -> bool:
    """Tell whether the second speaker of a dialogue never declines."""
    turns = dialogue_turns(text.text) if text.is_dialogue else None
    if turns is None:
        return False
    # Every other turn is that of the speaker who was asked.
    return not any(DECLINES.search(words) for _, words in turns[1::2])


def _is_copy(text: WrittenText, bounds: Gates) -> bool:
    share = copied_share(text.words, text.source.split(), bounds.ngram)
    return share > bounds.max_copied_share


# The order counts: the ledger has a text under the first gate it fails.
GATES: Mapping[str, Callable[[WrittenText, Gates], bool]] = {
    "empty": lambda text, bounds: not text.words,
    "cut_off": _is_cut_off,
    "literal_tag": lambda text, bounds: TAG in text.text,
    "control_token": lambda text, bounds: bool(CONTROL.search(text.text)),
    "refusal": _is_refusal,
    "left_over": _has_left_over,
    "too_short": lambda text, bounds: len(text.words) < bounds.min_words,
    "too_long": _is_too_long,
    "no_dialogue": _is_no_dialogue,
    "not_declined": _is_not_declined,
    "copy_of_input": _is_copy,
    "unfinished": _is_unfinished,
    "wrong_language": lambda text, bounds: not is_english(text.text),
}
