"""Checks before decoding: models, prompts and settings that could only give a wrong text."""

import inspect
import math
from collections.abc import Sequence

from transformers import PreTrainedConfig, PreTrainedModel

from specs.decoder import Decoder

WINDOW = "sliding_attention"
# Architectures that mask by the place of a key, not by position_ids.
MASKED_BY_PLACE = ("gpt_neo",)


def check(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    decoder: Decoder,
    new_tokens: int,
    tag: int | None,
    batch: int,
    word_starts: Sequence[bool] | None,
) -> None:
    """Refuse what the search cannot do. Raises ValueError with the remedy."""
    config = model.config.get_text_config()
    if min(new_tokens, batch) < 1:
        raise ValueError(f"new_tokens {new_tokens}, batch {batch}: each must be at least 1")
    if not all(prompts):
        empty = next(index for index, prompt in enumerate(prompts) if not prompt)
        raise ValueError(
            f"prompt {empty}: expected at least one token (got none); begin it with the start token"
        )
    _check_decoder(decoder, config, tag, word_starts)
    _check_attention(model, config)
    check_reach(config, max(map(len, prompts), default=0) + new_tokens)


def _check_decoder(
    decoder: Decoder,
    config: PreTrainedConfig,
    tag: int | None,
    word_starts: Sequence[bool] | None,
) -> None:
    name = type(decoder).__name__
    if tag is None and decoder.needs_tag:
        raise ValueError(
            f"{name}: needs the id of the harmfulness tag, which this model does not have; "
            "use BeamSearch"
        )
    if tag is not None and not 0 <= tag < config.vocab_size:
        raise ValueError(
            f"tag {tag}: expected a token of the model's vocabulary of {config.vocab_size}"
        )
    if decoder.needs_words and word_starts is None:
        raise ValueError(
            f"{name}: needs word_starts, to know where words begin; pass word_starts(tokenizer)"
        )


def _check_attention(model: PreTrainedModel, config: PreTrainedConfig) -> None:
    name = type(model).__name__
    if config._attn_implementation not in ("eager", "sdpa"):
        raise ValueError(
            f"attention {config._attn_implementation}: the tree of candidates needs a mask of its "
            'own, which only eager and sdpa take; load the model with attn_implementation="sdpa"'
        )
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        raise ValueError(
            f"{name}: takes no position_ids, so candidates cannot stand side by side; "
            "use another architecture"
        )
    if config.model_type in MASKED_BY_PLACE or getattr(config, "alibi", False):
        raise ValueError(
            f"{name}: attends by the places of keys in the cache, where candidates stand side by "
            "side; use a model that goes by position_ids alone"
        )


def positions_of(config: PreTrainedConfig) -> int | None:
    """Read how many tokens a model takes; None where it has no bound, or does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def reach_of(config: PreTrainedConfig) -> int | None:
    """Count the tokens that every layer sees: the positions, or a shorter window."""
    window = None
    if WINDOW in _layer_kinds(config):
        window = getattr(config.get_text_config(), "sliding_window", None)
    return min((bound for bound in (positions_of(config), window) if bound), default=None)


def _layer_kinds(config: PreTrainedConfig) -> set[str]:
    """List the kinds of layers, by transformers' names."""
    config = config.get_text_config()
    unnamed = WINDOW if getattr(config, "sliding_window", None) else "full_attention"
    return set(getattr(config, "layer_types", None) or [unnamed])


def check_reach(config: PreTrainedConfig, length: int) -> None:
    """Require that every layer sees the whole text of `length` tokens.

    No layer is recurrent, and no window or table of positions is shorter. Raises ValueError.
    """
    window = getattr(config, "sliding_window", None) or math.inf
    kinds = _layer_kinds(config)
    if kinds - {"full_attention", WINDOW} or (WINDOW in kinds and length > window):
        raise ValueError(
            f"layers {sorted(kinds)}, window {window}: expected attention over the whole text of "
            f"{length} tokens; shorten the prompts or use a model with full attention"
        )
    positions = positions_of(config) or math.inf
    if length > positions:
        raise ValueError(
            f"the longest prompt and its continuation are {length} tokens, the model has "
            f"{positions} positions; shorten the prompts or write fewer new tokens"
        )
