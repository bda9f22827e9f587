"""The harmfulness tag, put between the words of raw unsafe documents (paper §4, Algorithm 1)."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, Literal

from datatrove.data import Document

from safelm.blocks import Block
from safelm.grammar import Draw, stream
from safelm.shards import text_digest
from specs.tokens import TAG

Mode = Literal["bernoulli", "exact"]
SPACE = re.compile(r"\s+")


def insert_tags(text: str, tag: str, rate: float, draw: Draw, mode: Mode) -> str:
    """Put the tag before words, but never before the first: p·(n-1) tags are expected in n words (Algorithm 1).

    The tag stands directly behind the word before, so white space stays as it was: `w1<tag> w2`. bernoulli: a coin for
    each word, as in the paper. exact: the rounded share of the places, drawn without replacement.

    Raises ValueError if the text has the tag already.
    """
    if tag in text:
        raise ValueError(f"expected a text without {tag}, got one that has it; only raw text is tagged, and once")
    gaps = (match.span() for match in SPACE.finditer(text))
    places = [start for start, end in gaps if start > 0 and end < len(text)]
    chosen = [place for place in places if draw() < rate] if mode == "bernoulli" else exactly(places, rate, draw)
    edges = [0, *chosen, len(text)]
    return tag.join(text[start:end] for start, end in pairwise(edges))


def exactly(places: list[int], rate: float, draw: Draw) -> list[int]:
    """The rounded share of the places, in order; each choice of that many is as likely (Knuth's selection sampling)."""
    wanted = round(rate * len(places))
    chosen: list[int] = []
    for index, place in enumerate(places):
        if draw() * (len(places) - index) < wanted - len(chosen):
            chosen.append(place)
    return chosen


@dataclass(kw_only=True, eq=False, repr=False)
class InsertTags(Block):
    """Tag each document by Algorithm 1 of paper §4; the draws depend on the seed and its id alone.

    The unit is the word, as the algorithm prints it; a script without spaces is one word and gets no tag. A document
    that spells the tag out is dropped: the literal text must not pass for the token.
    """

    name: ClassVar[str] = "tags"
    rate: float
    mode: Mode
    seed: int

    def each(self, document: Document) -> Iterator[Document]:
        """The tagged document; its parent is the raw one."""
        if TAG in document.text:
            return self.drop("spells_the_tag")
        text = insert_tags(document.text, TAG, self.rate, stream(self.seed, "tag", document.id), self.mode)
        self.stat_update("tags", value=text.count(TAG), unit="document")
        metadata = {**document.metadata, "parent": document.id, "seed": self.seed}
        metadata["hazard"] = metadata.get("hazard") or metadata.get("score_hazard")
        yield Document(text=text, id=text_digest(metadata.get("prompt"), text), metadata=metadata)
