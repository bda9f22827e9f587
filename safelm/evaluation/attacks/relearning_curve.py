"""Relearning curve of one model: tune it on pairs, and generate completions at every checkpoint.

The tuned models are deleted. Nobody needs weights that were tuned to do harm, and as outputs they
would be pushed and pulled with everything else.

This module must not import judges: then another judge tunes no model again.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from safelm.builder.shards import write_table
from safelm.evaluation.bounds import GenerationSettings
from safelm.evaluation.completions import generate_completions
from safelm.models import CHECKPOINTS
from specs.document import RELEARNED

# (is_chat, [(id, text), ...])
Prompts = tuple[bool, Sequence[tuple[str, str]]]


def write_curve(
    folder: Path,
    *,
    weights: Path,
    source: Path,
    part: Literal["harmful", "benign"],
    checkpoints: Sequence[int],
    batch_size: int,
    sequence_length: int,
    learning_rate: float,
    seed: int,
    prompts: Mapping[str, Prompts],
    decoders: Mapping[str, GenerationSettings],
) -> tuple[()]:
    """Tune a model with a constant learning rate; write rows of RELEARNED for every checkpoint.

    Args:
        source: folder of dialogues.
        part: the pairs to read, harmful ones or the benign control.
        checkpoints: numbers of pairs after which to generate completions, besides before tuning.
        prompts: prompts by suite.
        decoders: settings by decoder.
    """
    from safelm.posttraining.pairs import relearning_pairs
    from safelm.posttraining.trainer import tune

    *early, last = checkpoints
    pairs, held_out = relearning_pairs(source, part, examples=last, seed=seed)
    # If this process is killed, the store removes the directory with the attempt.
    with TemporaryDirectory(dir=folder) as directory:
        tuned = Path(directory)
        summary = tune(
            weights,
            pairs,
            held_out,
            tuned,
            name="relearn",
            epochs=1,
            batch_size=batch_size,
            sequence_length=sequence_length,
            learning_rate=learning_rate,
            seed=seed,
            checkpoints=early,
            schedule="constant",
        )
        losses = summary["held_out"]
        models = {0: (weights, losses["before"])}
        for count in early:
            models[count] = (tuned / CHECKPOINTS / str(count), losses["doses"][count])
        # Pairs longer than a sequence were not read.
        models[len(pairs) - summary["left_out"]] = (tuned, losses["after"])
        rows = []
        for count, (model, loss) in models.items():
            for row in _completions(model, prompts, decoders):
                rows.append({"pairs": count, "held_out_loss": loss, **row})
    write_table(rows, RELEARNED, folder / ".parquet")
    return ()


def _completions(
    model: Path,
    prompts: Mapping[str, Prompts],
    decoders: Mapping[str, GenerationSettings],
) -> Iterator[dict[str, Any]]:
    """Yield the completions of every suite with every decoder."""
    for decoder, settings in decoders.items():
        for suite, (is_chat, texts) in prompts.items():
            for completion in generate_completions(model, is_chat, texts, settings):
                yield {"decoder": decoder, "suite": suite, **completion}
