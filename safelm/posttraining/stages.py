"""Safety instruction tuning and benign finetuning, as the stages run them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from safelm.text.tags import Mode


def instruct(
    folder: Path,
    *,
    name: str,
    base: Path,
    source: Path,
    examples: int,
    refusals_share: float,
    tagged_share: float,
    rate: float,
    mode: Mode,
    seed: int,
    max_exchanges: int = 1,
    **settings: Any,
) -> list[str]:
    """Tune a pretrained model to follow instructions safely; return the lines that are printed.

    A model that knows the tag also reads tagged pairs.

    Args:
        folder: gets the tuned model.
        name: the stage, for messages.
        base: the model's folder.
        source: an ingested source of dialogues.
        examples: the number of benign pairs and refusals together.
        refusals_share: of these, the share of refusals.
        tagged_share: tagged pairs, as a share of `examples`.
        rate: the rate of tags in a tagged answer.
        mode: how tags are drawn.
        seed: seeds the choice and the order of pairs.
        max_exchanges: exchanges of a dialogue, at most.
        settings: for `tune`.
    """
    # Imported here, because these imports take longer than most stages.
    from safelm.models import knows_tag
    from safelm.posttraining.pairs import safety_pairs, unread_pairs
    from safelm.posttraining.trainer import summary_line, tune

    pairs = safety_pairs(
        source,
        examples=examples,
        refusals_share=refusals_share,
        tagged_share=tagged_share if knows_tag(base) else 0.0,
        rate=rate,
        mode=mode,
        seed=seed,
        max_exchanges=max_exchanges,
    )
    unread = unread_pairs(source, pairs, seed)
    summary = tune(base, pairs, unread, folder, name=name, seed=seed, **settings)
    return [summary_line(name, summary)]


def finetune(
    folder: Path,
    *,
    name: str,
    base: Path,
    source: Path,
    examples: int,
    seed: int,
    checkpoints: Sequence[int],
    max_exchanges: int = 1,
    **settings: Any,
) -> list[str]:
    """Finetune an instruction-tuned model on benign pairs; return the lines that are printed.

    Args:
        folder: gets the tuned model.
        name: the stage, for messages.
        base: the model's folder.
        source: an ingested source of dialogues.
        examples: pairs to read.
        seed: seeds the choice and the order of pairs.
        checkpoints: pairs after which the model is kept as well.
        max_exchanges: exchanges of a dialogue, at most.
        settings: for `tune`.
    """
    from safelm.posttraining.pairs import benign_pairs, unread_pairs
    from safelm.posttraining.trainer import summary_line, tune

    pairs = benign_pairs(source, examples=examples, seed=seed, max_exchanges=max_exchanges)
    unread = unread_pairs(source, pairs, seed)
    summary = tune(
        base,
        pairs,
        unread,
        folder,
        name=name,
        seed=seed,
        checkpoints=checkpoints,
        **settings,
    )
    return [summary_line(name, summary)]
