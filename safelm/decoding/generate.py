"""Decode token lists with any decoder."""

from collections.abc import Collection, Sequence

import torch
from transformers import PreTrainedModel

from safelm.decoding.beams import Decoded
from safelm.decoding.branch import BranchSearch
from safelm.decoding.check import check
from safelm.decoding.search import Search, Watch
from specs.decoder import Branch, Decoder


def generate(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    decoder: Decoder,
    *,
    new_tokens: int,
    tag: int | None,
    end: Collection[int],
    batch: int,
    word_starts: Sequence[bool] | None = None,
    seed: int = 0,
    watch: Watch | None = None,
) -> list[Decoded]:
    """Continue each prompt by at most `new_tokens` tokens.

    The text of a prompt does not depend on the other prompts of its batch.

    Args:
        tag: the id of the harmfulness tag; None for a model without it, which SafeBeam refuses.
        end: the ids that end a text; may be empty.
        batch: prompts decoded at a time; memory holds batch x beams x candidates rows of logits.
        word_starts: `word_starts(tokenizer)`, for decoders with `needs_words`.
        seed: seeds the draws of `top_k` and of the random control.
        watch: called after every step, for a display, with the index of each prompt that is not
            done, the tokens of its leading text and p(tag) after each of them. Another text may
            lead after the next step, so show the whole text again.

    Raises ValueError for what the decoder cannot do with this model and these prompts.
    """
    check(model, prompts, decoder, new_tokens, tag, batch, word_starts)
    # Prompts of similar length share a batch, so there is little padding.
    order = sorted(range(len(prompts)), key=lambda index: len(prompts[index]))
    decoded: dict[int, Decoded] = {}
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            indices = order[start : start + batch]
            search = search_class(decoder)(
                model,
                [list(prompts[index]) for index in indices],
                decoder,
                new_tokens=[new_tokens] * len(indices),
                tag=tag,
                end=end,
                word_starts=word_starts,
                seed=seed,
            )
            found = search.run(watch and _of_batch(watch, indices))
            decoded.update(zip(indices, found, strict=True))
    return [decoded[index] for index in range(len(prompts))]


def search_class(decoder: Decoder) -> type[Search]:
    """Return the class of a decoder's search, of which `step` writes one token of each text.

    Its user calls `check` before, and steps under `torch.inference_mode()`.
    """
    return BranchSearch if isinstance(decoder, Branch) else Search


def _of_batch(watch: Watch, indices: Sequence[int]) -> Watch:
    """Call `watch` with the index of a prompt among all, given the one in its batch."""
    return lambda row, tokens, tags: watch(indices[row], tokens, tags)
