"""What generate refuses before anything is spent, for it could only give a wrong answer."""

import inspect
import math
from collections.abc import Sequence

from transformers import PreTrainedConfig, PreTrainedModel

from safelm.decoding.decoder import Decoder

WINDOW = "sliding_attention"
PLACED = ("gpt_neo",)  # architectures that mask by the place of a key, not by position_ids


def check(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    decoder: Decoder,
    new_tokens: int,
    tag: int | None,
    batch: int,
    word_starts: Sequence[bool] | None,
) -> None:
    """Refuse prompts, values and models that the search cannot serve, each with what to do instead."""
    config = model.config.get_text_config()
    if min(new_tokens, batch) < 1:
        raise ValueError(f"new_tokens {new_tokens}, batch {batch}: each must be at least 1")
    if not all(prompts):
        place = next(place for place, prompt in enumerate(prompts) if not prompt)
        raise ValueError(
            f"prompt {place}: expected at least one token (got none); begin it with the start token"
        )
    if tag is None and decoder.needs_tag:
        raise ValueError(
            f"decoder {decoder.method}: needs the id of the harmfulness tag, this model has none; use beam"
        )
    if tag is not None and not 0 <= tag < config.vocab_size:
        raise ValueError(
            f"tag {tag}: expected a token of the model's vocabulary of {config.vocab_size}"
        )
    if decoder.needs_words and word_starts is None:
        raise ValueError(
            f"decoder {decoder.method}, rule {decoder.rule}: needs word_starts, to know where words begin; "
            "see word_starts()"
        )
    if config._attn_implementation not in ("eager", "sdpa"):
        raise ValueError(
            f"attention {config._attn_implementation}: the tree of candidates needs a mask of its own, which only "
            'eager and sdpa take; load the model with attn_implementation="sdpa"'
        )
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        raise ValueError(
            f"{type(model).__name__}: takes no position_ids, so candidates cannot stand side by side"
        )
    if config.model_type in PLACED or getattr(config, "alibi", False):
        raise ValueError(
            f"{type(model).__name__}: attends by the places of keys in the cache, where candidates stand side by side; "
            "take a model that goes by position_ids alone"
        )
    length = max(map(len, prompts), default=0) + new_tokens
    check_reach(config, length)


def positions_of(config: PreTrainedConfig) -> int | None:
    """The tokens that a model can read; None where it has no bound, or does not say."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def reach_of(config: PreTrainedConfig) -> int | None:
    """The tokens over which every layer sees the whole text: the positions, or a window that is
    shorter.
    """
    window = (
        getattr(config.get_text_config(), "sliding_window", None)
        if WINDOW in _layers(config)
        else None
    )
    return min((bound for bound in (positions_of(config), window) if bound), default=None)


def _layers(config: PreTrainedConfig) -> set[str]:
    """The kinds of layers, by transformers' names."""
    config = config.get_text_config()
    unnamed = WINDOW if getattr(config, "sliding_window", None) else "full_attention"
    return set(getattr(config, "layer_types", None) or [unnamed])


def check_reach(config: PreTrainedConfig, length: int) -> None:
    """Every layer must see the whole text: none is recurrent, no window and no table of positions
    is shorter.
    """
    window = getattr(config, "sliding_window", None) or math.inf
    kinds = _layers(config)
    if kinds - {"full_attention", WINDOW} or (WINDOW in kinds and length > window):
        raise ValueError(
            f"layers {sorted(kinds)}, window {window}: expected attention over the whole text of {length} tokens; "
            "shorten the prompts or take a model with full attention"
        )
    positions = positions_of(config) or math.inf
    if length > positions:
        raise ValueError(
            f"the longest prompt and its continuation are {length} tokens, the model has {positions} positions; "
            "shorten the prompts or write fewer new tokens"
        )
