"""The child-safety guard: the first block of every ingest."""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, pairwise
from pathlib import Path
from typing import ClassVar, Self

import yaml
from datatrove.data import Document

import specs
from safelm.builder.blocks import Block
from safelm.documents.shards import CHILD_SAFETY
from safelm.text.sanitize import normalize_nfkc
from specs.document import GUARDED

GUARD = Path(specs.__file__).parent / "guard.yaml"
WORD = re.compile(r"[^\W_]+(?:-[^\W_]+)*")
AGE = re.compile(r"([0-9]{1,2})(?:-|$)")  # 15, or 15-year-old
WIDTH = 40  # letters that a word takes, at most; rarer ones than that count as the end of the neighbourhood


@dataclass(frozen=True)
class WordLists:
    """The lists of specs/guard.yaml."""

    sexual: frozenset[str]
    minors: frozenset[str]
    near: int
    adult: int

    @classmethod
    def read(cls, path: Path) -> Self:
        """From the file."""
        table = yaml.load(path.read_bytes(), Loader=yaml.CSafeLoader)
        return cls(
            frozenset(table["sexual"]), frozenset(table["minors"]), table["near"], table["adult"]
        )

    @cached_property
    def stems(self) -> list[str]:
        """The fewest strings of which a text without any has no sexual word."""
        return [
            word
            for word in sorted(self.sexual)
            if not any(other in word for other in self.sexual - {word})
        ]

    @cached_property
    def pattern(self) -> re.Pattern[str]:
        """A sexual word, whole; a hyphen ends a word."""
        return re.compile(
            rf"(?<![^\W_])(?:{'|'.join(map(re.escape, sorted(self.sexual)))})(?![^\W_])"
        )

    def is_minor(self, word: str, following: str) -> bool:
        """Whether a word is one for a minor: of the list, or an age with "year" in or behind it."""
        if not self.minors.isdisjoint((word, *word.split("-"))):
            return True
        age = AGE.match(word)
        return age is not None and int(age[1]) < self.adult and "year" in word + following


def is_unsafe_for_children(text: str, words: WordLists) -> bool:
    """Whether a sexual word stands within `near` words of a word for a minor, or of the age of one.

    A rule, not a model; it errs on the side of dropping. Letters in other shapes (full width,
    mathematical) count as the plain ones."""
    text = normalize_nfkc(text).lower()
    if not any(stem in text for stem in words.stems):
        return False
    return any(_has_minor_near(text, found, words) for found in words.pattern.finditer(text))


def _has_minor_near(text: str, found: re.Match[str], words: WordLists) -> bool:
    before = WORD.findall(text, max(0, found.start() - words.near * WIDTH), found.start())[
        -words.near :
    ]
    after = WORD.findall(text, found.end(), found.end() + (words.near + 1) * WIDTH)
    pairs = chain(pairwise([*before, ""]), pairwise([*after, ""][: words.near + 1]))
    return any(words.is_minor(word, following) for word, following in pairs)


@dataclass(kw_only=True, eq=False, repr=False)
class ChildSafety(Block):
    """Drop, as child_safety, what specs/guard.yaml holds unsafe for children, before anything else
    sees it.
    """

    type: ClassVar[str] = "filter"
    name: ClassVar[str] = "child safety"
    words: Path = field(default=GUARD)

    @cached_property
    def lists(self) -> WordLists:
        """The lists, read when the first document comes."""
        return WordLists.read(self.words)

    def process(self, document: Document) -> Iterator[Document]:
        """Drop or pass on one document, by its text, the prompt it answers and the hazard that its
        source names.
        """
        is_named = document.metadata.get("hazard") in GUARDED
        if is_named or is_unsafe_for_children(
            f"{document.metadata.get('prompt') or ''}\n{document.text}", self.lists
        ):
            self.drop(CHILD_SAFETY)
        else:
            yield document
