"""Find the words and phrases of a lexicon in a text, and the acts that they form."""

import re
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator
from operator import attrgetter
from typing import NamedTuple

GAP = 4  # words that may stand between a verb and its object
GUIDE_GAP = 4  # words that may stand between "how to" and the verb
STEP_GAP = 2  # words that may stand between "then" and the verb
STEPS = 2  # steps that make a text an instruction
DECLINE_NEAR = 40  # words before and after an act in which a text may decline it
NEAR = 100  # words before and after an act that say how the text presents it
WORD = re.compile(r"[^\W_]+(?:['\u2019-][^\W_]+)*|[.!?:\n]")
# The marks that end a clause.
BREAKS = frozenset(".!?:\n")


class Verb(NamedTuple):
    """A verb and its forms, as specs/hazards.yaml lists them."""

    base: str
    third: str
    past: str
    participle: str
    gerund: str


class Act(NamedTuple):
    """A verb of a hazard category with an object of the same category.

    `start` and `end` are in characters or in words; the function that returns the act says which.
    """

    hazard: str
    verb: str
    object: str
    start: int
    end: int

    def __str__(self) -> str:
        return f"{self.verb} the {self.object}"


class Marker(NamedTuple):
    """The meaning of a word or phrase: a role (verb, object, guide, ...), its key and the lemma."""

    role: str
    key: str
    lemma: str


class Hit(NamedTuple):
    """A marker found at words[start:end]."""

    start: int
    end: int
    marker: Marker


# The words of a term, and its marker.
Entry = tuple[tuple[str, ...], Marker]
START = attrgetter("start")


def plural(noun: str) -> str:
    """Return the regular plural of a noun; the last word of a longer term changes."""
    if noun.endswith("foot"):
        return noun[:-4] + "feet"
    if noun.endswith("y") and noun[-2:-1] not in "aeiou":
        return noun[:-1] + "ies"
    return noun + ("es" if noun.endswith(("s", "x", "ch", "sh")) else "s")


def words_of(text: str) -> list[str]:
    """Split a text into lower-case words and the marks that end a clause (. ! ? : line break)."""
    return WORD.findall(fold(text))


def split_words(text: str) -> tuple[list[str], list[tuple[int, int]]]:
    """Split a text as `words_of` does; return the words and their spans in the text."""
    # Spans first: lower case changes the length of some letters.
    spans = [match.span() for match in WORD.finditer(text)]
    words = [fold(text[start:end]) for start, end in spans]
    return words, spans


def fold(text: str) -> str:
    """Return a text in lower case, with straight apostrophes."""
    return text.lower().replace("\u2019", "'")


class Lexicon:
    """Words and phrases with their markers, found in one pass over a list of words."""

    def __init__(self, terms: Iterable[tuple[str, Marker]]) -> None:
        """Index every term under its first word, long terms before short ones."""
        self.index: dict[str, list[Entry]] = {}
        for term, marker in terms:
            words = tuple(words_of(term))
            self.index.setdefault(words[0], []).append((words, marker))
        for entries in self.index.values():
            entries.sort(key=lambda entry: -len(entry[0]))

    def find(self, words: list[str]) -> Iterator[Hit]:
        """Yield every term that the words contain, in order; terms may overlap."""
        index = self.index
        for start, word in enumerate(words):
            if word in index:
                for term, marker in index[word]:
                    end = start + len(term)
                    # The first word is known to match.
                    if end == start + 1 or tuple(words[start:end]) == term:
                        yield Hit(start, end, marker)


def find_acts(words: list[str], hits: list[Hit]) -> list[Act]:
    """Join each verb with the first object of its category in the same clause; offsets in words.

    At most GAP words may stand between them.
    """
    objects = {}
    for hit in hits:
        if hit.marker.role == "object":
            objects[hit.start, hit.marker.key] = hit
    acts = []
    for verb in hits:
        if verb.marker.role != "verb":
            continue
        hazard = verb.marker.key
        last = min(verb.end + GAP + 1, len(words))
        for index in range(verb.end, last):
            # An object in the next clause belongs to another verb.
            if words[index] in BREAKS:
                break
            if noun := objects.get((index, hazard)):
                names = verb.marker.lemma, noun.marker.lemma
                acts.append(Act(hazard, *names, verb.start, noun.end))
                break
    return acts


def is_taught(words: list[str], hits: list[Hit], act: Act) -> bool:
    """Decide whether a text teaches an act, or only mentions, reports or declines it.

    Only the NEAR words on both sides of the act count.
    """
    low = max(0, act.start - NEAR)
    high = min(len(words), act.end + NEAR)
    # Bisection finds the near hits, so a text of many acts takes linear time.
    first = bisect_left(hits, low, key=START)
    last = bisect_left(hits, high, key=START)
    near: defaultdict[str, list[Hit]] = defaultdict(list)
    for hit in hits[first:last]:
        near[hit.marker.role].append(hit)
    steps = near["steps"]
    declined = min(map(START, near["decline"] + near["report"]), default=high)
    early = sum(hit.start < declined for hit in steps)
    # A phrase that declines after the steps does not undo them.
    if max(early, _list_items(words, low, declined)) >= STEPS:
        return True
    # Steps that contain the act teach it, even after a phrase that declines.
    if len(steps) >= STEPS and _follows(act, steps, STEP_GAP):
        return True
    # Without steps, "how to" or the like teaches the act, unless anything declines.
    return declined == high and _follows(act, near["guide"], GUIDE_GAP)


def is_declined(hits: list[Hit], start: int, end: int) -> bool:
    """Tell whether a text declines or condemns what words[start:end] name.

    A phrase that does so stands within DECLINE_NEAR words.
    """
    first = bisect_left(hits, start - DECLINE_NEAR, key=START)
    last = bisect_left(hits, end + DECLINE_NEAR, key=START)
    return any(hit.marker.role == "decline" for hit in hits[first:last])


def _list_items(words: list[str], low: int, high: int) -> int:
    """Count the numbers of at most two digits that open a line in words[low:high]."""
    count = 0
    before = words[low - 1] if low else "\n"
    for word in words[low:high]:
        if before == "\n" and len(word) <= 2 and word.isdecimal():
            count += 1
        before = word
    return count


def _follows(act: Act, hits: list[Hit], gap: int) -> bool:
    return any(0 <= act.start - hit.end <= gap for hit in hits)
