"""The decoders as people use Transformers: a callable for `model.generate(..., custom_generate=…)`."""

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

from safelm.decoding.decoder import Decoded, Decoder
from safelm.decoding.generate import generate
from safelm.decoding.rules import word_starts
from safelm.decoding.search import Watch
from safelm.models.chat import tag_id


@dataclass
class TaggedOutput(GenerateDecoderOnlyOutput):
    """What `generate` gives with `return_dict_in_generate=True`.

    decoded holds, for each prompt, its tokens alone, their log-probability, p(tag) after each, and
    whether it was short-circuited."""

    decoded: tuple[Decoded, ...] | None = None


@dataclass(frozen=True)
class CustomGenerate:
    """A decoder for `model.generate`.

    An example:

        tokenizer = AutoTokenizer.from_pretrained(folder, padding_side="left")
        model = AutoModelForCausalLM.from_pretrained(folder)
        branch = Decoder("branch", beams=8, weight=240.0, threshold=0.015, short_circuit=True)
        texts = model.generate(
            **tokenizer(prompts, return_tensors="pt", padding=True),
            max_new_tokens=40,
            custom_generate=CustomGenerate.of(tokenizer, branch),
            watch=lambda prompt, tokens, tags: print(prompt, tokenizer.decode(tokens), tags[-1:]),
        )

    Nothing of the model's folder is run: Transformers calls this object, with the prompts it has
    prepared. Each prompt is followed by what was written, then by its end: the tag where the
    decoder stopped at it or refused, the first of eos_token_id where the text ended by itself.
    `watch` is that of safelm.decoding.generate. What would change the model's probabilities, or
    stop a text otherwise, is refused, for it would be left out silently. A `streamer` Transformers
    hands to its own decoders alone, so that it would wait in vain for the answer: use `watch`."""

    decoder: Decoder
    tag: int | None
    word_starts: Sequence[bool] | None = None
    batch: int = 64

    @classmethod
    def of(cls, tokenizer: PreTrainedTokenizerBase, decoder: Decoder, batch: int = 64) -> Self:
        """A decoder for models with this tokenizer; `batch` prompts are decoded side by side."""
        return cls(decoder, tag_id(tokenizer), word_starts(tokenizer), batch)

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
        """Decode (prompts, positions); Transformers calls this."""
        refuse(logits_processor, stopping_criteria, generation_config)
        if model_kwargs.get("inputs_embeds") is not None:
            raise ValueError(
                "generate: the decoder reads tokens; give input_ids alone, without inputs_embeds"
            )
        mask = model_kwargs.get("attention_mask")
        mask = torch.ones_like(input_ids) if mask is None else mask
        decoded = generate(
            model,
            [row[seen.bool()].tolist() for row, seen in zip(input_ids, mask, strict=True)],
            self.decoder,
            new_tokens=generation_config.max_length - input_ids.shape[1],
            tag=self.tag,
            end=ends(generation_config),
            batch=self.batch,
            word_starts=self.word_starts,
            watch=watch,
        )
        sequences = self.sequences(input_ids, decoded, generation_config)
        if generation_config.return_dict_in_generate:
            return TaggedOutput(sequences=cast(LongTensor, sequences), decoded=tuple(decoded))
        return sequences

    def sequences(
        self, prompts: Tensor, decoded: Sequence[Decoded], config: GenerationConfig
    ) -> Tensor:
        """Each prompt with what follows it, padded on the right."""
        closing = [
            [self.tag] if one.short_circuited else ends(config)[:1] * one.finished
            for one in decoded
        ]
        answers = [one.tokens + close for one, close in zip(decoded, closing, strict=True)]
        longest = max(map(len, answers))
        padding = (
            (ends(config) or [0])[0] if config.pad_token_id is None else int(config.pad_token_id)
        )
        rows = [answer + [padding] * (longest - len(answer)) for answer in answers]
        return torch.cat(
            [prompts, torch.tensor(rows, dtype=prompts.dtype, device=prompts.device)], dim=1
        )


def ends(config: GenerationConfig) -> list[int]:
    """The tokens that end a text."""
    found = config.eos_token_id
    return [] if found is None else [found] if isinstance(found, int) else list(found)


LEFT_OUT = (  # what else a generation configuration may ask for
    "do_sample",
    "penalty_alpha",
    "dola_layers",
    "output_scores",
    "output_logits",
    "output_attentions",
    "output_hidden_states",
)


def refuse(
    processors: LogitsProcessorList, criteria: StoppingCriteriaList, config: GenerationConfig
) -> None:
    """Refuse what the search would not heed."""
    if max(config.num_beams or 1, config.num_return_sequences or 1) > 1:
        raise ValueError(
            f"generate: num_beams {config.num_beams}, num_return_sequences {config.num_return_sequences}: a decoder "
            "has beams of its own and gives one text; leave both out"
        )
    if asked := [f"{name}={value}" for name in LEFT_OUT if (value := getattr(config, name, None))]:
        raise ValueError(
            f"generate: {', '.join(asked)}: a decoder chooses tokens in its own way and gives p(tag) alone; leave this "
            "out, or write False or None where the model's generation_config.json has it"
        )
    if processors:
        names = ", ".join(type(one).__name__ for one in processors)
        raise ValueError(
            f"generate: the decoder reads the model's own probabilities; leave out what asks for {names}"
        )
    others = [one for one in criteria if not is_heeded(one, config)]
    if others:
        names = ", ".join(type(one).__name__ for one in others)
        raise ValueError(
            f"generate: a text ends at max_new_tokens or at eos_token_id; write these, and leave out {names}"
        )


def is_heeded(criterion: StoppingCriteria, config: GenerationConfig) -> bool:
    """Whether a criterion is one that Transformers makes of the configuration, which alone the
    search reads.
    """
    if isinstance(criterion, MaxLengthCriteria):
        return criterion.max_length == config.max_length
    return isinstance(criterion, EosTokenCriteria) and set(criterion.eos_token_id.tolist()) == set(
        ends(config)
    )
