"""Prompt with a slot for a suffix, behind the request and before the answer, in text and tokens."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Self

from transformers import PreTrainedTokenizerBase

from safelm.evaluation.generation import CompletionModel
from safelm.seeding import Draw, pick

# The speaker who answers, at the end of a text to continue: the suffix stands before it.
CUE = re.compile(r"\n\w+:$")
# Draws of a token before the search for a random suffix gives up.
MAX_DRAWS = 64

Tokens = list[int]


class SuffixError(ValueError):
    """No suffix can be searched for; the message says why and what to do."""


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
        """Find the slot of a prompt, from two prompts that differ in a suffix of one token.

        Raises:
            SuffixError: if no token of `vocabulary` stays a token of its own behind the request.
        """
        before, after = text, ""
        cue = CUE.search(text)
        if cue and not model.is_chat:
            before, after = text[: cue.start()], cue[0]
        for pair in pairwise(vocabulary):
            texts = [before + decode(model.tokenizer, [token]) + after for token in pair]
            first, second = model.prompt_tokens(texts)
            start, shortest = 0, min(len(first), len(second))
            while start + 1 < shortest and first[start] == second[start]:
                start += 1
            head, tail = first[:start], first[start + 1 :]
            if [first, second] == [[*head, token, *tail] for token in pair]:
                return cls(model, before, after, head, tail)
        raise SuffixError(
            "no suffix can be searched for: the tokenizer merges every token behind the request "
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

        With the others, the model would read another suffix than the one that was measured (the
        code of Zou et al. filters likewise).
        """
        if not suffixes:
            return []
        read = self.model.prompt_tokens([self.text(suffix) for suffix in suffixes])
        return [
            suffix
            for suffix, tokens in zip(suffixes, read, strict=True)
            if tokens == self.tokens(suffix)
        ]

    def random(self, count: int, vocabulary: Sequence[int], draw: Draw) -> Tokens:
        """Draw a suffix of `count` tokens, each uniform among those that can stand there.

        Raises:
            SuffixError: if none of 64 draws can stand there.
        """
        suffix: Tokens = []
        for _ in range(count):
            drawn = [[*suffix, pick(vocabulary, draw)] for _ in range(MAX_DRAWS)]
            fitting = self.surviving(drawn)
            if not fitting:
                raise SuffixError(
                    f"none of {MAX_DRAWS} tokens can stand behind {len(suffix)} others; "
                    "change the seed"
                )
            suffix = fitting[0]
        return suffix


def decode(tokenizer: PreTrainedTokenizerBase, tokens: Sequence[int]) -> str:
    """Return tokens as text."""
    return str(tokenizer.decode(list(tokens)))


def typeable(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """List the tokens that one can see and type, without the tag and other special tokens."""
    special = {*tokenizer.all_special_ids, *tokenizer.get_added_vocab().values()}
    found = []
    for token in range(len(tokenizer)):
        text = "" if token in special else decode(tokenizer, [token])
        if text.strip() and text.isprintable() and "\N{REPLACEMENT CHARACTER}" not in text:
            found.append(token)
    return found
