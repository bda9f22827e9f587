"""Insert the harmfulness tag between the words of a text (paper §4, Algorithm 1)."""

import re
from collections.abc import Callable
from functools import cache
from itertools import accumulate, pairwise
from typing import Literal

import budoux

from safelm.seeding import Draw

Mode = Literal["bernoulli", "exact"]

SPACE = re.compile(r"\s+")
# Scripts that write no space between words. BudouX splits no Lao, Khmer, Burmese or Tibetan.
THAI = re.compile(r"[\u0e01-\u0e5b]+")
HAN_AND_KANA = re.compile(r"[\u3001-\u30ff\u3400-\u9fff\uf900-\ufaff\uff01-\uff9f]+")
KANA = re.compile(r"[\u3041-\u30ff]")
# Models of BudouX, each loaded for the first text that needs it.
Load = Callable[[], budoux.Parser]
thai: Load = cache(budoux.load_default_thai_parser)
chinese: Load = cache(budoux.load_default_simplified_chinese_parser)
japanese: Load = cache(budoux.load_default_japanese_parser)


def insert_tags(text: str, tag: str, rate: float, draw: Draw, mode: Mode) -> str:
    """Insert the tag before words, but never before the first word.

    The words are those of `word_gaps`. The tag follows the word before it directly, so white space
    stays as it was: `w1<tag> w2`. A text of n words gets rate·(n-1) tags on average. `bernoulli`
    draws for each word, as in the paper; `exact` draws the rounded share of the gaps without
    replacement.

    Raises ValueError if the text has the tag already.
    """
    if tag in text:
        raise ValueError(f"expected a text without {tag}; only raw text is tagged, and only once")
    gaps = word_gaps(text)
    if mode == "bernoulli":
        chosen = [gap for gap in gaps if draw() < rate]
    else:
        chosen = _sample_gaps(gaps, rate, draw)
    edges = [0, *chosen, len(text)]
    pieces = [text[start:end] for start, end in pairwise(edges)]
    return tag.join(pieces)


def word_gaps(text: str) -> list[int]:
    """Return where the words of a text end, but for the last word, in order.

    Words end at white space. Thai, Chinese and Japanese have none, so BudouX splits them; what it
    calls a word of Japanese has its particles.
    """
    gaps = []
    for match in SPACE.finditer(text):
        # White space at either end of the text separates no words.
        if match.start() > 0 and match.end() < len(text):
            gaps.append(match.start())
    # Chinese has no kana, and Japanese hardly a sentence without.
    han = japanese if KANA.search(text) else chinese
    unspaced = [*_unspaced_gaps(text, THAI, thai), *_unspaced_gaps(text, HAN_AND_KANA, han)]
    return sorted(gaps + unspaced) if unspaced else gaps


def _unspaced_gaps(text: str, script: re.Pattern[str], load: Load) -> list[int]:
    gaps: list[int] = []
    for run in script.finditer(text):
        ends = accumulate(map(len, load().parse(run[0])), initial=run.start())
        gaps += list(ends)[1:-1]
    return gaps


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
