"""The child-safety guard: the first block of every ingest."""

import re
import unicodedata
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import yaml
from datatrove.data import Document

import specs
from safelm.blocks import Block

GUARD = Path(specs.__file__).parent / "guard.yaml"
WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
AGE = re.compile(r"([0-9]{1,2})(?:-|$)")  # 15, or 15-year-old


class Words(NamedTuple):
    """The lists of specs/guard.yaml."""

    sexual: frozenset[str]
    minors: frozenset[str]
    near: int
    adult: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """From the file."""
        table = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
        return cls(frozenset(table["sexual"]), frozenset(table["minors"]), table["near"], table["adult"])


def is_unsafe_for_children(text: str, words: Words) -> bool:
    """Whether a sexual word stands within `near` words of a word for a minor, or of the age of one.

    A rule, not a model; it errs on the side of dropping. Letters in other shapes (full width, mathematical) count as
    the plain ones.
    """
    text = text if text.isascii() else unicodedata.normalize("NFKC", text)
    text = text.lower()
    if not any(word in text for word in words.sexual):
        return False
    found = WORD.findall(text)
    sexual = [place for place, word in enumerate(found) if not words.sexual.isdisjoint((word, *word.split("-")))]
    if not sexual:
        return False
    return any(_is_near(place, sexual, words.near) for place in _minors(found, words))


def _minors(found: list[str], words: Words) -> Iterator[int]:
    """The places of words for minors: of the list, or an age with "year" behind it."""
    for place, word in enumerate(found):
        if not words.minors.isdisjoint((word, *word.split("-"))):
            yield place
        elif word[0].isdigit():
            age = AGE.match(word)
            after = word + (found[place + 1] if place + 1 < len(found) else "")
            if age and int(age[1]) < words.adult and "year" in after:
                yield place


def _is_near(place: int, places: list[int], near: int) -> bool:
    after = bisect_left(places, place)
    return any(abs(other - place) <= near for other in places[max(0, after - 1) : after + 1])


@dataclass(kw_only=True, eq=False, repr=False)
class ChildSafety(Block):
    """Drop, as child_safety, what specs/guard.yaml holds unsafe for children, before anything else sees it."""

    type: ClassVar[str] = "filter"
    name: ClassVar[str] = "child safety"
    words: Path = field(default=GUARD)

    @cached_property
    def lists(self) -> Words:
        """The lists, read when the first document comes."""
        return Words.read(self.words)

    def each(self, document: Document) -> Iterator[Document]:
        """Drop or pass on one document, by its text and the prompt it answers."""
        if is_unsafe_for_children(f"{document.metadata.get('prompt') or ''}\n{document.text}", self.lists):
            self.drop("child_safety")
        else:
            yield document
