"""The door to every decoder: prompts in, what was written after each out."""

from collections.abc import Collection, Sequence
from functools import partial

import torch
from transformers import PreTrainedModel

from safelm.decoding.branch import Branches
from safelm.decoding.check import check
from safelm.decoding.decoder import Decoded, Decoder
from safelm.decoding.search import Search, Watch


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
    watch: Watch | None = None,
) -> list[Decoded]:
    """Continue each prompt by at most `new_tokens` tokens; what one gets does not depend on the
    others in its batch.

    Args:
        tag: the id of the harmfulness tag; None for a model that knows none, which SafeBeam refuses.
        end: the ids that end a text; may be empty.
        batch: prompts searched side by side; memory is that of batch x beams x candidates rows of logits.
        word_starts: `word_starts(tokenizer)`; rule boundary needs it, and branch where it heeds the tag.
        watch: for a display, called after every step with the place of each prompt that is not done, the tokens of
            its leading text and p(tag) after each of them. Another text may lead after the next step: draw it anew.
    """
    check(model, prompts, decoder, new_tokens, tag, batch, word_starts)
    order = sorted(
        range(len(prompts)), key=lambda place: len(prompts[place])
    )  # little padding within a batch
    search = Branches if decoder.method == "branch" else Search
    decoded: dict[int, Decoded] = {}
    with torch.inference_mode():
        for start in range(0, len(order), batch):
            places = order[start : start + batch]
            texts = [list(prompts[place]) for place in places]
            told = watch and partial(_tell, watch, places)
            found = search(model, texts, decoder, new_tokens, tag, end, word_starts).run(told)
            decoded.update(zip(places, found, strict=True))
    return [decoded[place] for place in range(len(prompts))]


def _tell(
    watch: Watch, places: Sequence[int], row: int, tokens: list[int], tags: list[float]
) -> None:
    watch(places[row], tokens, tags)
