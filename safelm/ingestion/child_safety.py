"""The child-safety filter, the first block of every ingest: a rule that rather drops too much."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, islice
from pathlib import Path
from typing import ClassVar, Self

import yaml
from datatrove.data import Document

from safelm.builder.blocks import Block
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


@dataclass(frozen=True)
class WordLists:
    """The lists of specs/guard.yaml.

    A word for a minor counts within `near` words; ages from `adult` on are those of adults.
    """

    sexual: frozenset[str]
    minors: frozenset[str]
    near: int
    adult: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read the lists from a file."""
        table = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
        return cls(
            sexual=frozenset(table["sexual"]),
            minors=frozenset(table["minors"]),
            near=table["near"],
            adult=table["adult"],
        )

    @cached_property
    def stems(self) -> list[str]:
        """The shortest strings of which every sexual word contains one."""
        stems: list[str] = []
        for word in sorted(self.sexual, key=len):
            if not any(stem in word for stem in stems):
                stems.append(word)
        return stems

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """A whole sexual word; a hyphen ends a word."""
        words = "|".join(map(re.escape, sorted(self.sexual)))
        return re.compile(rf"(?<![^\W_])(?:{words})(?![^\W_])")

    def is_minor(self, word: str, following: str) -> bool:
        """Return whether a word is listed, or an age of a minor with "year" in or after it."""
        if not self.minors.isdisjoint((word, *word.split("-"))):
            return True
        age = AGE.match(word)
        if age is None or "year" not in word + following:
            return False
        return int(age[1]) < self.adult


def is_unsafe_for_children(text: str, words: WordLists) -> bool:
    """Return whether a sexual word stands within `near` words of a minor or a minor's age.

    Letters in other shapes (full width, mathematical) count as the plain ones.
    """
    text = normalize_nfkc(text).lower()
    # Substrings are found much faster than the pattern, and most texts have none.
    if not any(stem in text for stem in words.stems):
        return False
    return any(_has_minor_near(text, match, words) for match in words.pattern.finditer(text))


def _has_minor_near(text: str, match: re.Match[str], words: WordLists) -> bool:
    near = words.near
    start, end = match.span()
    first = max(0, start - near * WIDTH)
    before = WORD.findall(text, first, start)[-near:]
    # One word more, because "year" may follow an age.
    after = WORD.findall(text, end, end + (near + 1) * WIDTH)
    pairs = chain(_with_next(before), islice(_with_next(after), near))
    return any(words.is_minor(word, following) for word, following in pairs)


def _with_next(words: list[str]) -> Iterator[tuple[str, str]]:
    """Pair each word with the next one."""
    return zip(words, [*words[1:], ""], strict=False)


@dataclass(kw_only=True, eq=False, repr=False)
class ChildSafety(Block):
    """Drop documents that are unsafe for children by specs/guard.yaml, as child_safety."""

    type: ClassVar[str] = "filter"
    name: ClassVar[str] = "child safety"
    words: Path = field(default=GUARD)

    @cached_property
    def lists(self) -> WordLists:
        """The lists, read for the first document."""
        return WordLists.read(self.words)

    def process(self, document: Document) -> Iterator[Document]:
        """Judge a document by its text, its prompt and the hazard that its source names."""
        is_guarded = document.metadata.get("hazard") in GUARDED
        prompt = document.metadata.get("prompt") or ""
        if is_guarded or is_unsafe_for_children(f"{prompt}\n{document.text}", self.lists):
            self.drop(CHILD_SAFETY)
        else:
            yield document
