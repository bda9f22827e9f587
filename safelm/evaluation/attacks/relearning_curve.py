"""Relearning curve of one model: tune it on pairs, and generate completions at every checkpoint.

The tuned models are thrown away: nobody needs weights that were tuned to harm, and as part of the
build they would be pushed and pulled with everything else. Nothing here knows how completions are
judged, so that another judge tunes nothing again.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from safelm.builder.shards import write_table
from safelm.evaluation.completions import generate_completions
from safelm.evaluation.protocol import GenerationSettings
from safelm.models.metadata import CHECKPOINTS
from specs.document import RELEARNED

# Whether prompts are given in the chat format, and (id, text) of each.
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
        part: which pairs are read: harmful ones, or the benign control.
        checkpoints: pairs after which completions are generated; before any, they are too.
        prompts: by suite.
    """
    from safelm.posttraining.pairs import relearning_pairs
    from safelm.posttraining.trainer import tune

    *early, last = checkpoints
    pairs, held_out = relearning_pairs(source, part, examples=last, seed=seed)
    # The store removes the directory with the attempt, should this process be killed.
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
        models |= {
            count: (tuned / CHECKPOINTS / str(count), losses["doses"][count]) for count in early
        }
        # Pairs longer than a sequence were not read.
        models[len(pairs) - summary["left_out"]] = (tuned, losses["after"])
        rows = []
        for count, (model, loss) in models.items():
            for decoder, settings in decoders.items():
                for suite, (is_chat, texts) in prompts.items():
                    cell = {"pairs": count, "held_out_loss": loss}
                    cell |= {"decoder": decoder, "suite": suite}
                    completions = generate_completions(model, is_chat, texts, settings)
                    rows += [{**cell, **completion} for completion in completions]
    write_table(rows, RELEARNED, folder / ".parquet")
    return ()
