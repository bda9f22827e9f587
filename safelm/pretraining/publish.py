"""The output of pretraining: the converted model, its checkpoint, loss.csv and train.json."""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from safelm.builder.files import Json, write_json
from safelm.corpora.mixing.plan import Plan, PlannedPhase
from safelm.models import knows_tag
from safelm.pretraining.checkpoint import CURVE, HELD_OUT, READ
from safelm.pretraining.convert import publish_checkpoint, write_hugging_face
from safelm.pretraining.process import TrainingError
from safelm.pretraining.start import Start
from specs.shape import Shape

# (rows, tokens) read of each part of each phase.
ReadCounts = list[list[list[int]]]


@dataclass(frozen=True)
class Trained:
    """The result of a run, as the terminal shows it.

    Attributes:
        resumed_tokens: the tokens read before the checkpoint that the run continued.
        seconds: the duration of the run since then.
    """

    parameters: int
    steps: int
    tokens: int
    first_loss: float
    final_loss: float
    resumed_tokens: int = 0
    seconds: float = 0.0

    def summary(self, name: str) -> str:
        """Return the line that the stage prints."""
        resumed = f" ({self.resumed_tokens:,} of them before)" if self.resumed_tokens else ""
        rate = (self.tokens - self.resumed_tokens) / self.seconds
        return (
            f"{name:<18} {self.parameters:,} parameters  {self.steps:,} steps  "
            f"{self.tokens:,} tokens{resumed}  loss {self.first_loss:.2f} to "
            f"{self.final_loss:.2f}  {rate:,.0f} tokens/s  {self.seconds:.1f} s"
        )


def publish(
    model: str,
    shape: Shape,
    plan: Plan,
    tokenizer: Path,
    checkpoint: Path,
    folder: Path,
    start: Start | None = None,
) -> Trained:
    """Write the folder of a model from its last checkpoint.

    Raises:
        TrainingError: training read other rows than planned.
    """
    read_counts = json.loads((checkpoint / READ).read_bytes())
    check_read_counts(plan, read_counts)
    parameters = write_hugging_face(checkpoint, shape, tokenizer, folder)
    if start:
        start.write_files(folder)
    publish_checkpoint(checkpoint, folder / "nanotron")
    for name in (CURVE, HELD_OUT):
        shutil.copyfile(checkpoint / name, folder / name)
    # Columns of the curve: step, tokens, loss, learning rate.
    losses = np.loadtxt(checkpoint / CURVE, delimiter=",", skiprows=1, ndmin=2)[:, 2]
    phases = zip(plan.phases, read_counts, strict=True)
    values: Json = {
        "model": model,
        "parameters": parameters,
        "steps": plan.steps,
        "tokens": plan.tokens,
        "final_loss": losses[-1],
        "knows_tag": plan.reads_tag,
        "phases": [_phase_summary(phase, counts) for phase, counts in phases],
    }
    if start:
        values["start"] = start.digest
        values["knows_tag"] |= knows_tag(start.folder)
    write_json(folder / "train.json", values)
    return Trained(parameters, plan.steps, plan.tokens, losses[0], losses[-1])


def _phase_summary(phase: PlannedPhase, counts: list[list[int]]) -> dict[str, object]:
    parts = {}
    # The counts of all phases have as many entries; phases of fewer parts have zeros at the end.
    for part, (rows, tokens) in zip(phase.parts, counts, strict=False):
        parts[part.corpus] = {
            "planned": part.tokens,
            "read": tokens,
            "rows": rows,
            "epochs": part.epochs,
        }
    return {"steps": phase.steps, "parts": parts}


def check_read_counts(plan: Plan, read_counts: ReadCounts) -> None:
    """Raise TrainingError if any part was not read exactly as planned, in rows and in tokens."""
    for number, (phase, counts) in enumerate(zip(plan.phases, read_counts, strict=True)):
        for part, (rows, tokens) in zip(phase.parts, counts, strict=False):
            if (rows, tokens) != (part.rows, part.tokens):
                raise TrainingError(
                    f"mixtures.{plan.mixture}.phases.{number}.parts.{part.corpus}: planned "
                    f"{part.rows:,} rows and {part.tokens:,} tokens, read {rows:,} and "
                    f"{tokens:,}; report this as a fault of safelm/pretraining/batches.py"
                )
