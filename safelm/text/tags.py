"""Insert the harmfulness tag between the words of a text (paper §4, Algorithm 1)."""

import re
from itertools import pairwise
from typing import Literal

from safelm.seeding import Draw

Mode = Literal["bernoulli", "exact"]


SPACE = re.compile(r"\s+")


def insert_tags(text: str, tag: str, rate: float, draw: Draw, mode: Mode) -> str:
    """Put the tag before words, but never before the first: p·(n-1) tags are expected in n words
    (Algorithm 1).

    The tag stands directly behind the word before, so white space stays as it was: `w1<tag> w2`.
    bernoulli: a coin for each word, as in the paper. exact: the rounded share of the places, drawn
    without replacement.

    Raises ValueError if the text has the tag already.
    """
    if tag in text:
        raise ValueError(
            f"expected a text without {tag}, got one that has it; only raw text is tagged, and once"
        )
    gaps = (match.span() for match in SPACE.finditer(text))
    places = [start for start, end in gaps if start > 0 and end < len(text)]
    chosen = (
        [place for place in places if draw() < rate]
        if mode == "bernoulli"
        else exactly(places, rate, draw)
    )
    edges = [0, *chosen, len(text)]
    return tag.join(text[start:end] for start, end in pairwise(edges))


def exactly(places: list[int], rate: float, draw: Draw) -> list[int]:
    """The rounded share of the places, in order; each choice of that many is as likely (Knuth's
    selection sampling).
    """
    wanted = round(rate * len(places))
    chosen: list[int] = []
    for index, place in enumerate(places):
        if draw() * (len(places) - index) < wanted - len(chosen):
            chosen.append(place)
    return chosen
