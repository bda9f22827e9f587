"""Pretrain a model: start the training process, hold it to its plan, publish what it made."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from safelm.digest import file_digest
from safelm.mixing.plan import Plan
from safelm.training.config import CHECKPOINTS, nanotron_config, write_config
from safelm.training.convert import hugging_face, publish_checkpoint
from safelm.training.job import CONFIG, CURVE, READ, Job
from specs.shape import Shape

ROOT = Path(__file__).resolve().parents[2]


class TrainingError(RuntimeError):
    """A model that could not be trained as planned."""


@dataclass(frozen=True)
class Trained:
    """What a run came to, for the screen."""

    parameters: int
    steps: int
    tokens: int
    first_loss: float
    final_loss: float
    seconds: float


def pretrain(
    model: str, shape: Shape, mixture: Path, tokenizer: Path, *, seed: int, run: Path, folder: Path
) -> Trained:
    """Train a model of a shape on a mixture and write its folder.

    Args:
        run: where the unfinished run lives; it is emptied before, and removed after.
        folder: gets the Hugging Face model, Nanotron's checkpoint (nanotron/), loss.csv and train.json.
    """
    plan = Plan.read(mixture)
    refuse_misfit(plan, shape, mixture)
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir(parents=True)
    dp, tp = ranks("SAFELM_DP"), ranks("SAFELM_TP")
    write_config(nanotron_config(model, shape, plan, seed, dp, tp), run / CONFIG)
    Job(model, str(mixture.resolve()), seed, shape.rope_theta, shape.recipe.decay_style).write(run)
    began = time.monotonic()
    start(run, dp * tp)
    seconds = time.monotonic() - began
    trained = publish(model, shape, plan, tokenizer, run, folder, seconds)
    shutil.rmtree(run)
    return trained


def refuse_misfit(plan: Plan, shape: Shape, mixture: Path) -> None:
    """The plan fits the shape, and the token files are those it was made of."""
    if plan.vocabulary > shape.vocabulary:
        raise TrainingError(
            f"{mixture}: the tokenizer has {plan.vocabulary:,} tokens, the shape has room for {shape.vocabulary:,}; "
            "write a smaller tokenizer.vocabulary or take a larger shape"
        )
    if plan.sequence > shape.positions:
        raise TrainingError(
            f"{mixture}: a row has {plan.sequence:,} positions, the shape {shape.positions:,}; "
            "write a smaller mix.sequence or take a larger shape"
        )
    for corpus, planned in plan.corpora.items():
        for name, sha256 in planned.files.items():
            path = mixture / "tokens" / corpus / name
            if not path.is_file() or file_digest(path) != sha256:
                raise TrainingError(f"{path}: is not the file of the plan; run `dvc repro` to plan again")


def ranks(variable: str) -> int:
    """How many ranks the environment asks for, one if it does not. Sums over ranks may differ in their last bit."""
    asked = os.environ.get(variable, "1")
    if not (asked.isdigit() and int(asked)):
        raise TrainingError(f"{variable}: expected a whole number above 0 (got {asked!r}); unset it for one")
    return int(asked)


def start(run: Path, world: int) -> None:
    """Run the training process, or `world` of them under torchrun, to its end."""
    command = [sys.executable, "-m", "safelm.training.worker"]
    if world > 1:
        launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={world}"]
        command = [*launcher, *command[1:]]
    done = subprocess.run(command, cwd=run, env=environment(world), preexec_fn=_die_with_parent)
    if done.returncode:
        code = done.returncode
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise TrainingError(f"{run}: the training process ended with {cause}; what it said stands above")


def environment(world: int) -> dict[str, str]:
    """The environment of a training process.

    One thread by default: with more, sums may differ in their last bit (SAFELM_THREADS). The two MALLOC settings keep
    freed buffers in the process; without them every step faults in its logits again, a tenth of the time.
    """
    values = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "OMP_NUM_THREADS": os.environ.get("SAFELM_THREADS", "1"),
        "CUDA_DEVICE_MAX_CONNECTIONS": "1",  # Nanotron's tensor parallelism asks for it
        "WANDB_MODE": "disabled",
        "MALLOC_MMAP_THRESHOLD_": str(32 << 20),
        "MALLOC_TRIM_THRESHOLD_": str(4 << 30),
    }
    if world == 1:
        values |= {"RANK": "0", "LOCAL_RANK": "0", "WORLD_SIZE": "1"}
    return values


def _die_with_parent() -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGTERM)  # PR_SET_PDEATHSIG: a killed stage leaves no training behind


def publish(model: str, shape: Shape, plan: Plan, tokenizer: Path, run: Path, folder: Path, seconds: float) -> Trained:
    """Check what was read, convert the last checkpoint, write loss.csv and train.json."""
    read = json.loads((run / READ).read_bytes())
    refuse_difference(plan, read)
    checkpoint = run / CHECKPOINTS / str(plan.steps)
    parameters = hugging_face(checkpoint, shape, tokenizer, folder)
    publish_checkpoint(checkpoint, folder / "nanotron")
    shutil.copyfile(run / CURVE, folder / CURVE)
    losses = np.loadtxt(run / CURVE, delimiter=",", skiprows=1, ndmin=2)[:, 2]
    summary = {
        "model": model,
        "parameters": parameters,
        "steps": plan.steps,
        "tokens": plan.tokens,
        "final_loss": losses[-1],
        "knows_tag": plan.reads_tag,
        "phases": [
            {
                "steps": phase.steps,
                "parts": {
                    part.corpus: {"planned": part.tokens, "read": counts[1], "rows": counts[0], "epochs": part.epochs}
                    for part, counts in zip(phase.parts, given, strict=False)
                },
            }
            for phase, given in zip(plan.phases, read, strict=True)
        ],
    }
    (folder / "train.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return Trained(parameters, plan.steps, plan.tokens, losses[0], losses[-1], seconds)


def refuse_difference(plan: Plan, read: list[list[list[int]]]) -> None:
    """What the model was given is what was planned, to the row and the token, in every part of every phase."""
    for number, (phase, counts) in enumerate(zip(plan.phases, read, strict=True)):
        for part, (rows, tokens) in zip(phase.parts, counts, strict=False):
            if (rows, tokens) != (part.rows, part.tokens):
                raise TrainingError(
                    f"mixtures.{plan.mixture}.phases.{number}.parts.{part.corpus}: planned {part.rows:,} rows and "
                    f"{part.tokens:,} tokens, read {rows:,} and {tokens:,}: a fault of safelm/training/batches.py"
                )
