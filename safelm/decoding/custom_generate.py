"""Decoders for Transformers' `model.generate(..., custom_generate=…)`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from torch import LongTensor, Tensor
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.generation import (
    EosTokenCriteria,
    GenerateDecoderOnlyOutput,
    LogitsProcessorList,
    MaxLengthCriteria,
    StoppingCriteria,
    StoppingCriteriaList,
)

from safelm.decoding.beams import Decoded
from safelm.decoding.generate import generate
from safelm.decoding.rules import word_starts
from safelm.decoding.search import Watch
from safelm.models.chat import tag_id
from specs.decoder import Decoder

# Settings of a generation configuration that the search does not use.
UNUSED = (
    "do_sample",
    "penalty_alpha",
    "dola_layers",
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
)


@dataclass
class TaggedOutput(GenerateDecoderOnlyOutput):
    """The output of `generate` with `return_dict_in_generate=True`.

    `decoded` holds the new tokens of each prompt, their log-probability, p(tag) after each of them,
    and whether the text was short-circuited.
    """

    decoded: tuple[Decoded, ...] | None = None


@dataclass(frozen=True)
class CustomGenerate:
    """A decoder for `model.generate`:

        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(folder)
        branch = Branch(branches=8, tag_weight=240.0, max_tag_probability=0.015)
        texts = model.generate(
            **tokenizer(prompts, return_tensors="pt", padding=True),
            max_new_tokens=40,
            custom_generate=CustomGenerate.of(tokenizer, branch),
            watch=lambda prompt, tokens, tags: print(prompt, tokenizer.decode(tokens), tags[-1:]),
        )

    Transformers prepares the prompts and calls this object; it runs no code from the model's
    folder. Each prompt is followed by the new tokens and then by their end: the tag if the decoder
    stopped at it or refused, the first of eos_token_id if the text ended by itself.

    Settings that would change the model's probabilities, or stop a text in another way, are
    refused, because they would be ignored silently. `watch` is described in `generate`. It replaces
    a `streamer`, which Transformers gives to its own decoders only.
    """

    decoder: Decoder
    tag: int | None
    word_starts: Sequence[bool] | None = None
    batch: int = 64
    seed: int = 0

    @classmethod
    def of(
        cls,
        tokenizer: PreTrainedTokenizerBase,
        decoder: Decoder,
        batch: int = 64,
        seed: int = 0,
    ) -> Self:
        """Make a decoder for models with this tokenizer, for `batch` prompts at a time.

        Raises ValueError for a decoder that reads the tag and a tokenizer without it.
        """
        tag = tag_id(tokenizer)
        if tag is None and decoder.needs_tag:
            raise ValueError(
                f"{type(decoder).__name__}: reads the harmfulness tag, which this tokenizer does "
                "not have; use BeamSearch, or a model that was trained on tagged text"
            )
        return cls(decoder, tag, word_starts(tokenizer), batch, seed)

    def __call__(
        self,
        model: PreTrainedModel,
        input_ids: Tensor,
        logits_processor: LogitsProcessorList,
        stopping_criteria: StoppingCriteriaList,
        generation_config: GenerationConfig,
        watch: Watch | None = None,
        **model_kwargs: Any,
    ) -> Tensor | TaggedOutput:
        """Decode `input_ids` (prompts, positions) as Transformers calls it."""
        refuse_unused(logits_processor, stopping_criteria, generation_config)
        if model_kwargs.get("inputs_embeds") is not None:
            raise ValueError(
                "generate: the decoder reads tokens; give input_ids alone, without inputs_embeds"
            )
        mask = model_kwargs.get("attention_mask")
        if mask is None:
            mask = torch.ones_like(input_ids)
        rows = zip(input_ids, mask, strict=True)
        prompts = [row[is_token.bool()].tolist() for row, is_token in rows]
        decoded = generate(
            model,
            prompts,
            self.decoder,
            new_tokens=generation_config.max_length - input_ids.shape[1],
            tag=self.tag,
            end=ends(generation_config),
            batch=self.batch,
            word_starts=self.word_starts,
            seed=self.seed,
            watch=watch,
        )
        sequences = self.sequences(input_ids, decoded, generation_config)
        if generation_config.return_dict_in_generate:
            return TaggedOutput(sequences=cast(LongTensor, sequences), decoded=tuple(decoded))
        return sequences

    def sequences(
        self,
        prompts: Tensor,
        decoded: Sequence[Decoded],
        config: GenerationConfig,
    ) -> Tensor:
        """Append its text to each prompt, padded on the right."""
        texts = [text.tokens + self.closing(text, config) for text in decoded]
        longest = max(map(len, texts))
        padding = config.pad_token_id
        if padding is None:
            padding = (ends(config) or [0])[0]
        rows = [text + [int(padding)] * (longest - len(text)) for text in texts]
        written = torch.tensor(rows, dtype=prompts.dtype, device=prompts.device)
        return torch.cat([prompts, written], dim=1)

    def closing(self, text: Decoded, config: GenerationConfig) -> list[int]:
        """Return the token after a text: the tag, an end, or none if it was cut off."""
        if text.short_circuited and self.tag is not None:
            return [self.tag]
        return ends(config)[:1] if text.finished else []


def ends(config: GenerationConfig) -> list[int]:
    """List the tokens that end a text."""
    end = config.eos_token_id
    if end is None:
        return []
    return [end] if isinstance(end, int) else list(end)


def refuse_unused(
    processors: LogitsProcessorList,
    criteria: StoppingCriteriaList,
    config: GenerationConfig,
) -> None:
    """Raise ValueError with the remedy for settings that the search would ignore."""
    if max(config.num_beams or 1, config.num_return_sequences or 1) > 1:
        raise ValueError(
            f"generate: num_beams {config.num_beams}, num_return_sequences "
            f"{config.num_return_sequences}: a decoder has its own beams and returns one text; "
            "leave both out"
        )
    values = {name: getattr(config, name, None) for name in UNUSED}
    unused = [f"{name}={value}" for name, value in values.items() if value]
    if unused:
        raise ValueError(
            f"generate: {', '.join(unused)}: a decoder chooses tokens in its own way and returns "
            "only p(tag); leave this out, or set it to False or None if the model's "
            "generation_config.json has it"
        )
    if processors:
        names = ", ".join(type(processor).__name__ for processor in processors)
        raise ValueError(
            f"generate: the decoder reads the model's own probabilities; leave out {names} and "
            "the settings behind it"
        )
    unused_criteria = [criterion for criterion in criteria if not is_used(criterion, config)]
    if unused_criteria:
        names = ", ".join(type(criterion).__name__ for criterion in unused_criteria)
        raise ValueError(
            f"generate: a text ends at max_new_tokens or at eos_token_id; set these and leave "
            f"out {names}"
        )


def is_used(criterion: StoppingCriteria, config: GenerationConfig) -> bool:
    """Return whether the search obeys a criterion: Transformers made it of the configuration."""
    if isinstance(criterion, MaxLengthCriteria):
        return criterion.max_length == config.max_length
    if not isinstance(criterion, EosTokenCriteria):
        return False
    return set(criterion.eos_token_id.tolist()) == set(ends(config))
