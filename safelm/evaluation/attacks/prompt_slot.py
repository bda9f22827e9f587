"""Prompt with a slot for a suffix, between the request and the answer, as text and tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from transformers import PreTrainedTokenizerBase

from safelm.evaluation.generation import CompletionModel
from safelm.seeding import Draw, pick

# The name of the speaker who answers, which ends a text to continue. The suffix goes before it.
CUE = re.compile(r"\n\w+:$")
# Draws of one token of a random suffix before giving up.
MAX_DRAWS = 64

Tokens = list[int]


class SuffixError(ValueError):
    """A prompt can take no suffix; the message says why and what to do."""


@dataclass(frozen=True)
class Slot:
    """A prompt's text, `before` + suffix + `after`, and its tokens, `head` + suffix + `tail`."""

    model: CompletionModel
    before: str
    after: str
    head: Tokens
    tail: Tokens

    @classmethod
    def of(cls, model: CompletionModel, text: str, vocabulary: Sequence[int]) -> Self:
        """Find the slot of a prompt, by comparing two prompts whose suffixes are one token.

        Raises:
            SuffixError: if no token of `vocabulary` stays a token of its own after the request.
        """
        before = text
        after = ""
        cue = CUE.search(text)
        if cue and not model.is_chat:
            before = text[: cue.start()]
            after = cue[0]
        for pair in pairwise(vocabulary):
            texts = [before + decode(model.tokenizer, [token]) + after for token in pair]
            first, second = model.prompt_tokens(texts)
            # The prompts differ in one token alone, whose index is that of the slot.
            start = 0
            shortest = min(len(first), len(second))
            while start + 1 < shortest and first[start] == second[start]:
                start += 1
            head = first[:start]
            tail = first[start + 1 :]
            # Unless the tokenizer merged a suffix with its neighbours.
            expected = [[*head, token, *tail] for token in pair]
            if [first, second] == expected:
                return cls(model, before, after, head, tail)
        raise SuffixError(
            "no suffix can be searched for: the tokenizer merges every token after the request "
            "with the text around it"
        )

    def text(self, suffix: Sequence[int]) -> str:
        """Return the prompt with a suffix, as one would type it."""
        return self.before + decode(self.model.tokenizer, suffix) + self.after

    def tokens(self, suffix: Sequence[int]) -> Tokens:
        """Return the prompt with a suffix, as the model reads it."""
        return [*self.head, *suffix, *self.tail]

    def surviving(self, suffixes: Sequence[Tokens]) -> list[Tokens]:
        """Keep suffixes that encode to the same tokens when the prompt is typed.

        With any other, the model would not read the suffix that was measured. The code of Zou et
        al. has the same filter.
        """
        if not suffixes:
            return []
        typed = self.model.prompt_tokens([self.text(suffix) for suffix in suffixes])
        pairs = zip(suffixes, typed, strict=True)
        return [suffix for suffix, tokens in pairs if tokens == self.tokens(suffix)]

    def random(self, count: int, vocabulary: Sequence[int], draw: Draw) -> Tokens:
        """Draw a suffix of `count` tokens, each uniform among those that survive being typed.

        Raises:
            SuffixError: if no draw of a token survives.
        """
        suffix: Tokens = []
        for _ in range(count):
            drawn = [[*suffix, pick(vocabulary, draw)] for _ in range(MAX_DRAWS)]
            fitting = self.surviving(drawn)
            if not fitting:
                raise SuffixError(
                    f"none of {MAX_DRAWS} tokens can follow {len(suffix)} others; change the seed"
                )
            suffix = fitting[0]
        return suffix


def decode(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """Return the text of tokens."""
    return str(tokenizer.decode(list(tokens)))


def typeable(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """List the tokens that one can see and type; the tag and other special tokens are not."""
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    found = []
    for token in range(len(tokenizer)):
        text = "" if token in special else decode(tokenizer, [token])
        # A part of a character of several bytes, which nobody can type alone.
        is_part = "\N{REPLACEMENT CHARACTER}" in text
        if text.strip() and text.isprintable() and not is_part:
            found.append(token)
    return found
