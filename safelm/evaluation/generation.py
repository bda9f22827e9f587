"""A model that is asked: its prompts as tokens, and what it writes after them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from transformers import PreTrainedModel, PreTrainedTokenizerBase

from safelm.builder.digest import content_digest
from safelm.decoding import Decoder, generate, word_starts
from safelm.decoding.check import reach_of
from safelm.models.chat import end_ids, load, page_tokens, request_tokens, tag_id
from safelm.stats.rates import DIGITS


@dataclass(frozen=True)
class Examinee:
    """A model that is asked: to answer requests in its chat format, or to continue texts."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    chat: bool

    def prompt_tokens(self, prompts: Sequence[str]) -> list[list[int]]:
        """What the model reads of each prompt."""
        return (request_tokens if self.chat else page_tokens)(self.tokenizer, prompts)

    def fits(self, prompts: Sequence[str], new_tokens: int) -> list[bool]:
        """Whether each prompt leaves room for an answer in what every layer of the model sees."""
        reach = reach_of(self.model.config)
        return [
            reach is None or len(prompt) + new_tokens <= reach
            for prompt in self.prompt_tokens(prompts)
        ]

    def answers(
        self, prompts: Sequence[str], decoder: Decoder, *, tokens: int, batch: int
    ) -> list[dict[str, object]]:
        """What the model writes after each prompt, as columns of specs/document.py REPLIES."""
        if not prompts:
            return []  # batch_decode would make one text of none
        decoded = generate(
            self.model,
            self.prompt_tokens(prompts),
            decoder,
            new_tokens=tokens,
            tag=tag_id(self.tokenizer),
            end=end_ids(self.tokenizer, self.model),
            batch=batch,
            word_starts=word_starts(self.tokenizer) if decoder.needs_words else None,
        )
        texts = self.tokenizer.batch_decode(
            [one.tokens for one in decoded], skip_special_tokens=True
        )
        return [
            {
                "completion": text,
                "short_circuited": one.short_circuited,
                "tag_probability": round(max(one.tag_probabilities), DIGITS)
                if one.tag_probabilities
                else None,
            }
            for text, one in zip(texts, decoded, strict=True)
        ]


def examinee(model: Path, chat: bool) -> Examinee:
    """The model of a folder, loaded once in this process."""
    return Examinee(*_loaded(model.resolve(), content_digest(model)), chat)


@lru_cache(maxsize=1)
def _loaded(model: Path, digest: str) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    return load(model)
