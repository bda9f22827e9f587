"""Search for prompts in documents, by the n-grams of their words."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np

from safelm.text.word_hashes import Hashes, hash_ngrams, hash_words

# For each hash of an n-gram: the prompts that have it, each with its position there.
Occurrences = dict[int, list[tuple[str, int]]]
UPPER_BITS = 20


class Found(NamedTuple):
    """A prompt in a document: all of its words in a row, or a share of its n-grams."""

    id: str
    is_exact: bool
    share: float


class PromptIndex:
    """Index of the n-grams of prompts, given as (id, text).

    A prompt of fewer words than `ngram` is one n-gram; one without words is never found. Of several
    prompts with one id, the first counts.
    """

    def __init__(self, prompts: Iterable[tuple[str, str]], ngram: int) -> None:
        # The number of n-grams of each prompt.
        self.sizes: dict[str, int] = {}
        # By the length of n-grams, because short prompts have shorter ones.
        self.occurrences: dict[int, Occurrences] = defaultdict(lambda: defaultdict(list))
        for id, text in prompts:
            words = hash_words(text)
            if len(words) and id not in self.sizes:
                length = min(ngram, len(words))
                self.sizes[id] = len(words) - length + 1
                for position, gram in enumerate(hash_ngrams(words, length).tolist()):
                    self.occurrences[length][gram].append((id, position))
        # Whether some n-gram of a prompt has these upper bits: most n-grams of a page have others.
        self.is_possible = np.zeros(1 << UPPER_BITS, dtype=np.bool_)
        for occurrences in self.occurrences.values():
            self.is_possible[_upper(np.array(list(occurrences), dtype=np.uint64))] = True

    def find(self, text: str) -> Iterator[Found]:
        """Yield every prompt that shares an n-gram with a document, and how much of it is there."""
        words = hash_words(text)
        # The n-grams of each prompt that the document has, by their position in the prompt.
        positions: dict[str, set[int]] = defaultdict(set)
        # The same, counted by the place in the document at which the prompt would begin.
        aligned: Counter[tuple[str, int]] = Counter()
        for length, occurrences in self.occurrences.items():
            for start, gram in self._candidates(words, length):
                for id, position in occurrences.get(gram, ()):
                    positions[id].add(position)
                    aligned[id, start - position] += 1
        # All n-grams at one place are the whole prompt.
        exact = {id for (id, _), count in aligned.items() if count == self.sizes[id]}
        for id, found in positions.items():
            yield Found(id, id in exact, len(found) / self.sizes[id])

    def _candidates(self, words: Hashes, length: int) -> Iterator[tuple[int, int]]:
        """Yield the place and the hash of each n-gram that some prompt may have."""
        grams = hash_ngrams(words, length)
        places = np.flatnonzero(self.is_possible[_upper(grams)])
        yield from zip(places.tolist(), grams[places].tolist(), strict=True)


def _upper(hashes: Hashes) -> Hashes:
    return hashes >> np.uint64(64 - UPPER_BITS)
