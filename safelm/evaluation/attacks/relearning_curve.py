"""Tune one model on more and more pairs, and ask it on the way.

The tuned models are asked and thrown away: nobody needs weights that were tuned to harm, and in the
build they would be pushed and pulled with everything else. Nothing here knows how answers are
judged, so another judge tunes nothing again."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from safelm.builder.shards import write_table
from safelm.evaluation.completions import replies
from safelm.models.metadata import CHECKPOINTS
from specs.decoder import Decoder
from specs.document import RELEARNED

Part = Literal["harmful", "benign"]


def curve(
    folder: Path,
    *,
    base: Path,
    source: Path,
    part: Part,
    checkpoints: Sequence[int],
    batch_size: int,
    sequence_length: int,
    learning_rate: float,
    seed: int,
    questions: Mapping[str, Sequence[tuple[str, str]]],
    chat: Mapping[str, bool],
    decoders: Mapping[str, Decoder],
    tokens: int,
    width: int,
    asked_seed: int,
) -> tuple[()]:
    """Tune the model of `base`, ask it before and after every dose, and write what it answered:
    rows of RELEARNED.

    `chat` says of each suite of `questions` whether it is asked in the chat format.
    """
    from safelm.posttraining.pairs import relearning_pairs
    from safelm.posttraining.trainer import tune

    pairs, held = relearning_pairs(source, part, examples=checkpoints[-1], seed=seed)
    recipe: dict[str, Any] = {
        "epochs": 1,
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "learning_rate": learning_rate,
    }
    recipe |= {"seed": seed, "schedule": "constant"}
    with TemporaryDirectory(dir=folder) as scratch:  # swept with the attempt, should this be killed
        place = Path(scratch)
        told = tune(
            base, pairs, held, place, name="relearn", checkpoints=checkpoints[:-1], **recipe
        )
        losses = told["held_out"]
        end = len(pairs) - told["left_out"]
        along = {
            dose: (place / CHECKPOINTS / str(dose), losses["doses"][dose])
            for dose in checkpoints[:-1]
        }
        models = {0: (base, losses["before"]), **along, end: (place, losses["after"])}
        rows = [
            {"pairs": read, "held_out_loss": loss, "decoder": name, "suite": suite, **answer}
            for read, (model, loss) in models.items()
            for name, decoder in decoders.items()
            for suite, asked in questions.items()
            for answer in replies(
                model,
                chat=chat[suite],
                prompts=asked,
                decoder=decoder,
                tokens=tokens,
                batch=width,
                seed=asked_seed,
            )
        ]
    write_table(rows, RELEARNED, folder / ".parquet")
    return ()
