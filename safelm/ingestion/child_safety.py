"""The child-safety filter, the first block of every ingest: a rule that rather drops too much."""

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import Self

import yaml
from datatrove.data import Document
from pydantic import TypeAdapter

from safelm.builder.blocks import Block, Documents
from safelm.documents.shards import CHILD_SAFETY
from safelm.text.sanitize import normalize_nfkc
from specs import SPECS
from specs.document import GUARDED

GUARD = SPECS / "guard.yaml"
WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
# The age in "15" or "15-year-old".
AGE = re.compile(r"([0-9]{1,2})(?:-|$)")
# The letters allowed for a word when the text around a match is cut out. If words are longer, fewer
# of them are searched.
WIDTH = 40
WINDOW = 1000  # words in which mentions are counted
EXPLICIT = 2  # mentions that an explicit word or an age stands for


@dataclass(frozen=True)
class WordLists:
    """The lists of specs/guard.yaml.

    A word for a minor counts within `near` words; ages from `adult` on are those of adults. A
    document is dropped with `mentions` in any 1,000 words, or at that density if it is shorter.
    """

    explicit: frozenset[str]
    sexual: frozenset[str]
    minors: frozenset[str]
    near: int
    adult: int
    mentions: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the lists from a file."""
        table = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
        lists: Self = TypeAdapter(cls).validate_python(table)
        return lists

    @cached_property
    def stems(self) -> list[str]:
        """The shortest strings of which every word of both lists contains one."""
        stems: list[str] = []
        for word in sorted(self.explicit | self.sexual, key=len):
            if not any(stem in word for stem in stems):
                stems.append(word)
        return stems

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """A whole sexual or explicit word; a hyphen ends a word."""
        words = "|".join(map(re.escape, sorted(self.explicit | self.sexual)))
        return re.compile(rf"(?<![^\W_])(?:{words})(?![^\W_])")

    def weight(self, word: str, following: str) -> int:
        """Return 1 for a word for a minor, EXPLICIT for a minor's age with "year", else 0."""
        if not self.minors.isdisjoint((word, *word.split("-"))):
            return 1
        age = AGE.match(word)
        if age is None or "year" not in word + following:
            return 0
        return EXPLICIT if int(age[1]) < self.adult else 0


def is_unsafe_for_children(text: str, words: WordLists) -> bool:
    """Tell whether sexual words stand too often within `near` words of a minor or a minor's age.

    One explicit word or age is enough, at any length. Of other mentions, `mentions` in any 1,000
    words are; in a shorter text fewer, so that one is enough in a text of a few hundred words.
    Letters in other shapes (full width, mathematical) count as the plain ones.
    """
    text = normalize_nfkc(text).lower()
    # Substrings are found much faster than the pattern, and most texts have none.
    if not any(stem in text for stem in words.stems):
        return False
    found = [(match, _weight(text, match, words)) for match in words.pattern.finditer(text)]
    mentions = [(match.start(), weight) for match, weight in found if weight]
    if not mentions:
        return False
    if any(weight >= EXPLICIT for _, weight in mentions):
        return True
    starts = [word.start() for word in re.finditer(r"\S+", text)]
    # At `mentions` in WINDOW words, a single one is too many for a text this short.
    if len(starts) * words.mentions < WINDOW:
        return True
    return _are_close([bisect_right(starts, start) for start, _ in mentions], words.mentions)


def _are_close(places: Sequence[int], count: int) -> bool:
    """Tell whether so many of the places, which are in order, lie within WINDOW words."""
    pairs = zip(places, places[count - 1 :], strict=False)
    return any(last - first < WINDOW for first, last in pairs)


def _weight(text: str, match: re.Match[str], words: WordLists) -> int:
    """Return the mentions that a sexual word stands for; 0 where no minor is near."""
    near = words.near
    start, end = match.span()
    first = max(0, start - near * WIDTH)
    before = WORD.findall(text, first, start)[-near:]
    # One word more, because "year" may follow an age.
    after = WORD.findall(text, end, end + (near + 1) * WIDTH)
    pairs = chain(_with_next(before), islice(_with_next(after), near))
    # The empty pair weighs 0: a word without neighbours has no other.
    weight = max(words.weight(word, following) for word, following in [*pairs, ("", "")])
    return weight * (EXPLICIT if match[0] in words.explicit else 1)


def _with_next(words: list[str]) -> Iterator[tuple[str, str]]:
    """Pair each word with the next one."""
    return zip(words, [*words[1:], ""], strict=False)


class ChildSafety(Block):
    """Drop documents that are unsafe for children by specs/guard.yaml, as child_safety."""

    type = "filter"
    name = "child safety"
    words: Path = field(default=GUARD)

    @cached_property
    def lists(self) -> WordLists:
        """The lists, read for the first document."""
        return WordLists.read(self.words)

    def process(self, document: Document) -> Documents:
        """Judge a document by its text, its prompt and the hazard that its source names."""
        is_guarded = document.metadata.get("hazard") in GUARDED
        prompt = document.metadata.get("prompt") or ""
        if is_guarded or is_unsafe_for_children(f"{prompt}\n{document.text}", self.lists):
            self.drop(CHILD_SAFETY)
        else:
            yield document
