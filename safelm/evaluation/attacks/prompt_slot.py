"""A prompt with a place for a suffix: where the request ends and before the answer begins, in text
and in tokens.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

from transformers import PreTrainedTokenizerBase

from safelm.evaluation.generation import Examinee
from safelm.seeding import Draw, pick

CUE = re.compile(
    r"\n\w+:$"
)  # who answers, at the end of a text to continue: the suffix stands before it
TRIES = 64  # draws of a token before none is thought to fit

Tokens = list[int]


class SuffixError(ValueError):
    """A suffix cannot be looked for; the message says why and what to do."""


@dataclass(frozen=True)
class Slot:
    """`before` + suffix + `after` is the text that is asked; `head` + suffix + `tail` are the
    tokens that are read.
    """

    asked: Examinee
    before: str
    after: str
    head: Tokens
    tail: Tokens

    @classmethod
    def of(cls, asked: Examinee, text: str, vocabulary: Sequence[int]) -> "Slot":
        """The slot of a prompt. Where it is in the tokens is seen from two prompts that differ in a
        suffix of one.

        Raises SuffixError where no token of `vocabulary` stands behind the request as a token of
        its own."""
        cue = CUE.search(text)
        before, after = (text[: cue.start()], cue[0]) if cue and not asked.chat else (text, "")
        for pair in pairwise(vocabulary):
            texts = [before + typed(asked.tokenizer, [token]) + after for token in pair]
            first, second = asked.prompt_tokens(texts)
            places = [
                place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b
            ]
            if len(first) == len(second) and [
                (first[place], second[place]) for place in places
            ] == [pair]:
                return cls(asked, before, after, first[: places[0]], first[places[0] + 1 :])
        raise SuffixError(
            "the tokenizer merges whatever stands behind the request; no suffix can be looked for"
        )

    def text(self, suffix: Sequence[int]) -> str:
        """The prompt with a suffix, as one would type it."""
        return self.before + typed(self.asked.tokenizer, suffix) + self.after

    def tokens(self, suffix: Sequence[int]) -> Tokens:
        """The prompt with a suffix, as the model reads it."""
        return [*self.head, *suffix, *self.tail]

    def surviving(self, suffixes: Sequence[Tokens]) -> list[Tokens]:
        """Those that come back as the same tokens when the prompt is typed, cleaned and encoded.

        Of the others another suffix would be asked than the one that was measured (the paper's code
        filters so too)."""
        if not suffixes:
            return []
        read = self.asked.prompt_tokens([self.text(suffix) for suffix in suffixes])
        return [
            suffix
            for suffix, tokens in zip(suffixes, read, strict=True)
            if tokens == self.tokens(suffix)
        ]

    def random(self, count: int, vocabulary: Sequence[int], draw: Draw) -> Tokens:
        """A suffix of `count` tokens drawn from a vocabulary, each likely as any that can stand
        there.
        """
        suffix: Tokens = []
        for _ in range(count):
            tried = self.surviving([[*suffix, pick(vocabulary, draw)] for _ in range(TRIES)])
            if not tried:
                raise SuffixError(
                    f"none of {TRIES} tokens can stand behind {len(suffix)} others; change the seed"
                )
            suffix = tried[0]
        return suffix


def typed(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """Tokens as text."""
    return str(tokenizer.decode(list(tokens)))


def typeable(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The tokens that a suffix may hold: what one sees and can type, and neither the tag nor
    another special token.
    """
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    texts = {
        token: typed(tokenizer, [token]) for token in range(len(tokenizer)) if token not in special
    }
    return [
        token
        for token, text in texts.items()
        if text.strip() and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text
    ]
