"""Completions by a Hugging Face model, with the project's decoders."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safelm.builder.digest import content_digest
from safelm.decoding import Decoded, generate, word_starts
from safelm.decoding.check import reach_of
from safelm.evaluation.bounds import GenerationSettings
from safelm.models.chat import end_ids, load, page_tokens, request_tokens, tag_id
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

    def fits(self, prompts: Sequence[str], new_tokens: int) -> list[bool]:
        """Tell for each prompt whether every layer would see all of it and `new_tokens` more."""
        reach = reach_of(self.model.config)
        lengths = [len(tokens) for tokens in self.prompt_tokens(prompts)]
        return [reach is None or length + new_tokens <= reach for length in lengths]

    def complete(
        self,
        prompts: Sequence[str],
        settings: GenerationSettings,
    ) -> list[dict[str, Any]]:
        """Generate a completion of each prompt, as a row of BOUNDED with a score for its id."""
        if not prompts:
            # batch_decode makes one text of no tokens.
            return []
        decoder = settings.bounded
        decoded = generate(
            self.model,
            self.prompt_tokens(prompts),
            decoder,
            new_tokens=settings.max_new_tokens,
            tag=tag_id(self.tokenizer),
            end=end_ids(self.tokenizer, self.model),
            batch=settings.batch_size,
            word_starts=word_starts(self.tokenizer) if decoder.needs_words else None,
            seed=settings.seed,
        )
        tokens = [found.tokens for found in decoded]
        texts = self.tokenizer.batch_decode(tokens, skip_special_tokens=True)
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


@lru_cache(maxsize=1)
def _load(weights: Path, digest: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load(weights)
