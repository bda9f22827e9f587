"""Insert the harmfulness tag between the words of a text (paper §4, Algorithm 1)."""

import re
from itertools import pairwise
from typing import Literal

from safelm.seeding import Draw

Mode = Literal["bernoulli", "exact"]

SPACE = re.compile(r"\s+")


def insert_tags(text: str, tag: str, rate: float, draw: Draw, mode: Mode) -> str:
    """Insert the tag before words, but never before the first word.

    The tag follows the word before it directly, so white space stays as it was: `w1<tag> w2`. A
    text of n words gets rate·(n-1) tags on average. `bernoulli` draws for each word, as in the
    paper; `exact` draws the rounded share of the gaps without replacement.

    Raises ValueError if the text has the tag already.
    """
    if tag in text:
        raise ValueError(f"expected a text without {tag}; only raw text is tagged, and only once")
    gaps = []
    for match in SPACE.finditer(text):
        # White space at either end of the text separates no words.
        if match.start() > 0 and match.end() < len(text):
            gaps.append(match.start())
    if mode == "bernoulli":
        chosen = [gap for gap in gaps if draw() < rate]
    else:
        chosen = _sample_gaps(gaps, rate, draw)
    edges = [0, *chosen, len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    return tag.join(pieces)


def _sample_gaps(gaps: list[int], rate: float, draw: Draw) -> list[int]:
    """Return the rounded share of the gaps, in order (Knuth's selection sampling).

    Every choice of that many gaps has the same probability.
    """
    count = round(rate * len(gaps))
    chosen: list[int] = []
    for index, gap in enumerate(gaps):
        left = len(gaps) - index
        needed = count - len(chosen)
        # This gap is chosen with the probability needed / left.
        if draw() * left < needed:
            chosen.append(gap)
    return chosen
