"""The two tunings: which pairs they read, and from which model they go on.

What trains is imported when there is something to train, for importing it takes longer than most
stages."""

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
    **dials: Any,
) -> list[str]:
    """Safety instruction tuning of the model of `base`; one that knows the tag also reads tagged
    pairs.
    """
    from safelm.models.metadata import knows_tag
    from safelm.posttraining.pairs import safety_pairs, unread_pairs
    from safelm.posttraining.trainer import sentence, tune

    tags = tagged_share if knows_tag(base) else 0.0
    pairs = safety_pairs(
        source,
        examples=examples,
        refusals=refusals_share,
        tags=tags,
        rate=rate,
        mode=mode,
        seed=seed,
    )
    unread = unread_pairs(source, pairs, seed)
    return [sentence(name, tune(base, pairs, unread, folder, name=name, seed=seed, **dials))]


def finetune(
    folder: Path,
    *,
    name: str,
    base: Path,
    source: Path,
    examples: int,
    seed: int,
    checkpoints: Sequence[int],
    **dials: Any,
) -> list[str]:
    """Benign finetuning of the model of `base`, which is also kept as it was after each of the
    `doses`.
    """
    from safelm.posttraining.pairs import benign_pairs, unread_pairs
    from safelm.posttraining.trainer import sentence, tune

    pairs = benign_pairs(source, examples=examples, seed=seed)
    unread = unread_pairs(source, pairs, seed)
    return [
        sentence(
            name,
            tune(
                base, pairs, unread, folder, name=name, seed=seed, checkpoints=checkpoints, **dials
            ),
        )
    ]
