"""Relearning curve of one model: tune it on pairs, and generate completions at every checkpoint.

The tuned models are deleted. Nobody needs weights that were tuned to do harm, and as outputs they
would be pushed and pulled with everything else.

This module must not import judges: then another judge tunes no model again.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from safelm.builder.shards import write_table
from safelm.evaluation.bounds import GenerationSettings
from safelm.evaluation.completions import generate_completions
from safelm.models import CHECKPOINTS
from specs.document import RELEARNED


def write_curve(
    folder: Path,
    *,
    weights: Path,
    source: Path,
    settings: dict[str, Any],
    prompts: Mapping[str, Mapping[str, Any]],
    decoders: Mapping[str, GenerationSettings],
) -> tuple[()]:
    """Tune a model with a constant learning rate; write rows of RELEARNED for every checkpoint.

    Args:
        source: folder of dialogues.
        settings: keys of a row of `relearn` that say how to tune; besides at its checkpoints,
            completions are generated before tuning.
        prompts: `PromptSet.arguments()` of each suite.
        decoders: settings by decoder.
    """
    from safelm.posttraining.pairs import relearning_pairs
    from safelm.posttraining.trainer import tune

    tuning = settings.copy()
    *early, last = tuning.pop("checkpoints")
    seed = tuning["seed"]
    pairs, held_out = relearning_pairs(source, tuning.pop("part"), examples=last, seed=seed)
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
            checkpoints=early,
            schedule="constant",
            **tuning,
        )
        losses = summary["held_out"]
        models = {0: (weights, losses["before"])}
        for count in early:
            models[count] = (tuned / CHECKPOINTS / str(count), losses["checkpoints"][count])
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
    prompts: Mapping[str, Mapping[str, Any]],
    decoders: Mapping[str, GenerationSettings],
) -> Iterator[dict[str, Any]]:
    """Yield the completions of every suite with every decoder."""
    for decoder, settings in decoders.items():
        for suite, values in prompts.items():
            for completion in generate_completions(model, settings=settings, **values):
                yield {"decoder": decoder, "suite": suite, **completion}
