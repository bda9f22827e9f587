"""Checks before decoding: models, prompts and settings for which the text would be wrong."""

import inspect
import math
from collections.abc import Sequence

from transformers import PreTrainedConfig, PreTrainedModel

from specs.decoder import Decoder

# Kinds of layers, by transformers' names.
WINDOW, FULL = "sliding_attention", "full_attention"
# Architectures that mask by the index of a key in the cache, not by position_ids.
MASKED_BY_INDEX = ("gpt_neo",)


def check(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    decoder: Decoder,
    new_tokens: int,
    tag: int | None,
    batch: int,
    word_starts: Sequence[bool] | None,
) -> None:
    """Raise ValueError with the remedy for what the search cannot do."""
    config = model.config.get_text_config()
    if min(new_tokens, batch) < 1:
        raise ValueError(f"new_tokens {new_tokens}, batch {batch}: each must be at least 1")
    for index, prompt in enumerate(prompts):
        if not prompt:
            raise ValueError(
                f"prompt {index}: expected at least one token (got none); "
                "begin it with the start token"
            )
    _check_decoder(decoder, config, tag, word_starts)
    _check_attention(model, config)
    longest = max(map(len, prompts), default=0)
    check_reach(config, longest + new_tokens)


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
    if decoder.is_calibrated:
        raise ValueError(
            f"{name}: max_false_refusals needs the bound of this model; give it to "
            "with_bound of safelm.evaluation.bounds, or give max_tag_probability"
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
            f"attention {config._attn_implementation}: the search needs its own attention mask, "
            'which only eager and sdpa accept; load the model with attn_implementation="sdpa"'
        )
    if "position_ids" not in inspect.signature(model.base_model.forward).parameters:
        raise ValueError(
            f"{name}: takes no position_ids, so candidates cannot share one cache; "
            "use another architecture"
        )
    # ALiBi's distances, too, are taken from the index of a key.
    if config.model_type in MASKED_BY_INDEX or getattr(config, "alibi", False):
        raise ValueError(
            f"{name}: attends by the index of a key in the cache, where candidates are side by "
            "side; use a model that goes by position_ids alone"
        )


def positions_of(config: PreTrainedConfig) -> int | None:
    """Return how many tokens a model takes; None if it has no bound or does not tell."""
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def reach_of(config: PreTrainedConfig) -> int | None:
    """Return how many tokens every layer sees: the model's positions or a shorter window."""
    window = None
    if WINDOW in _layer_kinds(config):
        window = getattr(config.get_text_config(), "sliding_window", None)
    bounds = [bound for bound in (positions_of(config), window) if bound]
    return min(bounds, default=None)


def _layer_kinds(config: PreTrainedConfig) -> set[str]:
    """Return the kinds of layers that a model has; older configurations have only one kind."""
    config = config.get_text_config()
    layer_types = getattr(config, "layer_types", None)
    if layer_types:
        return set(layer_types)
    return {WINDOW if getattr(config, "sliding_window", None) else FULL}


def check_reach(config: PreTrainedConfig, length: int) -> None:
    """Raise ValueError unless every layer sees the whole text of `length` tokens.

    A recurrent layer does not, nor does one with a shorter window or table of positions.
    """
    window = getattr(config, "sliding_window", None) or math.inf
    kinds = _layer_kinds(config)
    is_recurrent = kinds - {FULL, WINDOW}
    is_cut_off = WINDOW in kinds and length > window
    if is_recurrent or is_cut_off:
        raise ValueError(
            f"layers {sorted(kinds)}, window {window}: expected attention over the whole text of "
            f"{length} tokens; shorten the prompts or use a model with full attention"
        )
    positions = positions_of(config) or math.inf
    if length > positions:
        raise ValueError(
            f"the longest prompt and its continuation have {length} tokens, the model has "
            f"{positions} positions; shorten the prompts or write fewer new tokens"
        )
