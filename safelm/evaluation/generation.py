"""Completions by a Hugging Face model, with the project's decoders."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import compress
from operator import add
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safelm.builder.digest import content_digest
from safelm.decoding import Decoded, generate, word_starts
from safelm.decoding.check import reach_of
from safelm.evaluation.bounds import GenerationSettings
from safelm.evaluation.prompts import PromptSet
from safelm.models.chat import (
    TokenLists,
    end_ids,
    load,
    page_tokens,
    request_tokens,
    strip_special_tokens,
    tag_id,
)
from safelm.stats.rates import DIGITS


@dataclass(frozen=True)
class CompletionModel:
    """A model with its tokenizer.

    With `is_chat` it answers requests in its chat format; without, it continues texts.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    is_chat: bool

    def prompt_tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """Encode prompts as the model reads them."""
        encode = request_tokens if self.is_chat else page_tokens
        return encode(self.tokenizer, prompts)

    def answer_tokens(self, prompt: str, answer: str) -> list[int]:
        """Encode the beginning of an answer to a prompt, without special tokens."""
        answer = strip_special_tokens(answer)
        if not self.is_chat and not prompt[-1:].isspace():
            # A text to continue ends in a word.
            answer = f" {answer}"
        return list(self.tokenizer(answer, add_special_tokens=False)["input_ids"])

    def fits(self, prompts: Sequence[str], new_tokens: int) -> list[bool]:
        """Tell for each prompt whether every layer would see all of it and `new_tokens` more."""
        reach = reach_of(self.model.config)
        lengths = [len(tokens) for tokens in self.prompt_tokens(prompts)]
        return [reach is None or length + new_tokens <= reach for length in lengths]

    def complete(
        self,
        prompts: Sequence[str],
        settings: GenerationSettings,
        openings: TokenLists | None = None,
    ) -> list[dict[str, Any]]:
        """Generate a completion of each prompt, as a row of BOUNDED with a score for its id.

        `openings` are tokens with which each completion begins.
        """
        if not prompts:
            # batch_decode makes one text of no tokens.
            return []
        openings = openings or [[]] * len(prompts)
        decoder = settings.bounded
        decoded = generate(
            self.model,
            [*map(add, self.prompt_tokens(prompts), openings)],
            decoder,
            new_tokens=settings.max_new_tokens,
            tag=tag_id(self.tokenizer),
            end=end_ids(self.tokenizer, self.model),
            batch=settings.batch_size,
            word_starts=word_starts(self.tokenizer) if decoder.needs_words else None,
            seed=settings.seed,
        )
        answers = map(add, openings, (found.tokens for found in decoded))
        texts = self.tokenizer.batch_decode([*answers], skip_special_tokens=True)
        return [_row(text, found) for text, found in zip(texts, decoded, strict=True)]


def _row(text: str, decoded: Decoded) -> dict[str, Any]:
    highest = max(decoded.tag_probabilities, default=None)
    return {
        "completion": text,
        "short_circuited": decoded.short_circuited,
        "tag_probability": None if highest is None else round(highest, DIGITS),
        "score": decoded.score,
        "tokens": sum(decoded.written),
        "greedy_tokens": sum(decoded.written[:1]),
    }


def load_completion_model(weights: Path, is_chat: bool) -> CompletionModel:
    """Load a model from its folder, unless it is the last one that this process loaded."""
    model, tokenizer = _load(weights.resolve(), content_digest(weights))
    return CompletionModel(model, tokenizer, is_chat)


# `digest` makes new weights in the same folder another entry of the cache.
@lru_cache(maxsize=1)
def _load(weights: Path, digest: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load(weights)


def fitting(found: PromptSet, weights: Path, new_tokens: int) -> PromptSet:
    """Leave out prompts after which a model has no room for so many tokens; others follow."""
    texts = [prompt.text for prompt in found.candidates]
    fits = load_completion_model(weights, found.is_chat).fits(texts, new_tokens)
    kept = [*compress(found.candidates, fits)]
    limit = len(found.prompts)
    left_out = {**found.left_out, "too_long": fits.count(False)}
    return replace(found, prompts=kept[:limit], reserve=kept[limit:], left_out=left_out)
