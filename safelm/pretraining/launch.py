"""Pretrain a model: start the training process, hold it to its plan, publish what it made."""

import ctypes
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from safelm.builder.digest import file_digest
from safelm.builder.fingerprint import code_digest
from safelm.builder.paths import scratch
from safelm.corpora.mixing.plan import Plan
from safelm.pretraining.checkpoint import CURVE, HELD_OUT, READ, Checkpoint, newest
from safelm.pretraining.config import CHECKPOINTS, nanotron_config, write_config
from safelm.pretraining.convert import hugging_face, publish_checkpoint
from safelm.pretraining.cost import flops_per_token
from safelm.pretraining.job import CONFIG, Job
from safelm.pretraining.prefix import longest, prefix_keys
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
    taken: int  # of these tokens, those that a checkpoint had already read
    first_loss: float
    final_loss: float
    seconds: float

    def sentence(self, name: str) -> str:
        """What the stage prints."""
        before = f" ({self.taken:,} of them before)" if self.taken else ""
        rate = (self.tokens - self.taken) / self.seconds
        return (
            f"{name:<18} {self.parameters:,} parameters  {self.steps:,} steps  {self.tokens:,} tokens{before}  "
            f"loss {self.first_loss:.2f} to {self.final_loss:.2f}  {rate:,.0f} tokens/s  {self.seconds:.1f} s"
        )


def pretrain_model(
    folder: Path, *, model: str, shape: Shape, mixture: Path, tokenizer: Path, seed: int
) -> list[str]:
    """Pretrain in the folders of .safelm, as `pretrain` does; what the stage prints."""
    done = pretrain(model, shape, mixture, tokenizer, seed=seed, aside=scratch(), folder=folder)
    return [done.sentence(f"pretrain/{model}")]


def pretrain(
    model: str,
    shape: Shape,
    mixture: Path,
    tokenizer: Path,
    *,
    seed: int,
    aside: Path,
    folder: Path,
) -> Trained:
    """Train a model of a shape on a mixture and write its folder.

    Args:
        aside: pretrain/<model> is where the run lives; one that was killed goes on from its last checkpoint, with
            the same bytes in the end. prefixes/ has the ends of phases that runs have in common; a run goes on from the
            longest beginning it finds there. plots/ gets the pace.
        folder: gets the Hugging Face model, Nanotron's checkpoint (nanotron/), loss.csv and train.json.
    """
    plan, run, shared = Plan.read(mixture), aside / "pretrain" / model, aside / "prefixes"
    refuse_misfit(plan, shape, mixture)
    dp, tp = ranks("SAFELM_DP"), ranks("SAFELM_TP")
    config = nanotron_config(model, shape, plan, seed, dp, tp)
    key, keys = run_key(plan, shape, config), prefix_keys(plan, shape, config, makers())
    job = Job(
        model,
        str(mixture.resolve()),
        seed,
        shape.rope_theta,
        shape.recipe.decay_style,
        key,
        interval(plan.steps),
        None,
        flops_per_token(shape, plan.sequence),
        str((aside / "plots").resolve()),
        {str(step): str((shared / name).resolve()) for step, name in keys.items()},
    )
    began = time.monotonic()
    with longest(shared, keys, f"pretrain/{model}") as prefix:
        own = newest(run / CHECKPOINTS, key)
        start = max(
            filter(None, [own, prefix]), key=lambda checkpoint: checkpoint.step, default=None
        )
        taken = start.tokens if start else 0
        clear(run, own)
        if not (start and start.step == plan.steps):
            write_config(config, run / CONFIG)
            replace(job, start=str(start.folder.resolve()) if start else None).write(run)
            train(run, dp * tp)
    last = newest(run / CHECKPOINTS, key)
    if last is None or last.step != plan.steps:
        raise TrainingError(
            f"{run}: expected a whole checkpoint of step {plan.steps:,}; run the stage again"
        )
    return publish(
        model, shape, plan, tokenizer, last.folder, folder, taken, time.monotonic() - began
    )


def makers() -> list[str]:
    """The code that trains and the libraries that compute: what they make is not taken for what
    others made.
    """
    return [
        code_digest(["safelm.pretraining.worker"]),
        *(version(name) for name in ("nanotron", "torch", "numpy")),
    ]


def run_key(plan: Plan, shape: Shape, config: dict[str, Any]) -> str:
    """What a run is: its plan, shape, recipe, seed and ranks, and its makers."""
    parts = [asdict(plan), shape.model_dump(), config, makers()]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def interval(steps: int) -> int:
    """Steps between checkpoints, SAFELM_CHECKPOINT_STEPS: no byte of a model depends on it."""
    return whole_number("SAFELM_CHECKPOINT_STEPS", max(1, min(1000, steps // 4)))


def clear(run: Path, own: Checkpoint | None) -> None:
    """Leave of an earlier run what this one goes on from."""
    if own is None:
        shutil.rmtree(run, ignore_errors=True)
    for path in (run / CHECKPOINTS).glob("*.attempt"):
        shutil.rmtree(path)
    (run / CHECKPOINTS).mkdir(parents=True, exist_ok=True)


def refuse_misfit(plan: Plan, shape: Shape, mixture: Path) -> None:
    """The plan fits the shape, and the token files are those it was made of."""
    if plan.vocabulary > shape.vocabulary:
        raise TrainingError(
            f"{mixture}: the tokenizer has {plan.vocabulary:,} tokens, the shape has room for {shape.vocabulary:,}; "
            "write a smaller tokenizer.vocab_size or take a larger shape"
        )
    if plan.sequence > shape.positions:
        raise TrainingError(
            f"{mixture}: a row has {plan.sequence:,} positions, the shape {shape.positions:,}; "
            "write a smaller mix.sequence_length or take a larger shape"
        )
    for corpus, planned in plan.corpora.items():
        for name, sha256 in planned.files.items():
            path = mixture / "tokens" / corpus / name
            if not path.is_file() or file_digest(path) != sha256:
                raise TrainingError(
                    f"{path}: is not the file of the plan; run `dvc repro` to plan again"
                )


def ranks(variable: str) -> int:
    """How many ranks the environment asks for, one if it does not. Sums over ranks may differ in
    their last bit.
    """
    return whole_number(variable, 1)


def whole_number(variable: str, otherwise: int) -> int:
    """A number above 0 from the environment."""
    asked = os.environ.get(variable, str(otherwise))
    if not (asked.isdigit() and int(asked)):
        raise TrainingError(
            f"{variable}: expected a whole number above 0 (got {asked!r}); unset it for {otherwise}"
        )
    return int(asked)


def train(run: Path, world: int) -> None:
    """Run the training process, or `world` of them under torchrun, to its end."""
    command = [sys.executable, "-m", "safelm.pretraining.worker"]
    if world > 1:
        launcher = [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            f"--nproc-per-node={world}",
        ]
        command = [*launcher, *command[1:]]
    done = subprocess.run(command, cwd=run, env=environment(world), preexec_fn=_die_with_parent)
    if done.returncode:
        code = done.returncode
        cause = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        raise TrainingError(
            f"{run}: the training process ended with {cause}; what it said stands above"
        )


def environment(world: int) -> dict[str, str]:
    """The environment of a training process.

    One thread by default: with more, sums may differ in their last bit (SAFELM_THREADS). The two
    MALLOC settings keep freed buffers in the process; without them every step faults in its logits
    again, a tenth of the time."""
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
        ctypes.CDLL(None).prctl(
            1, signal.SIGTERM
        )  # PR_SET_PDEATHSIG: a killed stage leaves no training behind


def publish(
    model: str,
    shape: Shape,
    plan: Plan,
    tokenizer: Path,
    checkpoint: Path,
    folder: Path,
    taken: int,
    seconds: float,
) -> Trained:
    """Check what was read, convert the last checkpoint, write loss.csv and train.json."""
    read = json.loads((checkpoint / READ).read_bytes())
    refuse_difference(plan, read)
    parameters = hugging_face(checkpoint, shape, tokenizer, folder)
    publish_checkpoint(checkpoint, folder / "nanotron")
    for name in (CURVE, HELD_OUT):
        shutil.copyfile(checkpoint / name, folder / name)
    losses = np.loadtxt(checkpoint / CURVE, delimiter=",", skiprows=1, ndmin=2)[:, 2]
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
                    part.corpus: {
                        "planned": part.tokens,
                        "read": counts[1],
                        "rows": counts[0],
                        "epochs": part.epochs,
                    }
                    for part, counts in zip(phase.parts, given, strict=False)
                },
            }
            for phase, given in zip(plan.phases, read, strict=True)
        ],
    }
    (folder / "train.json").write_text(json.dumps(summary, indent=1) + "\n", encoding="utf-8")
    return Trained(parameters, plan.steps, plan.tokens, taken, losses[0], losses[-1], seconds)


def refuse_difference(plan: Plan, read: list[list[list[int]]]) -> None:
    """What the model was given is what was planned, to the row and the token, in every part of
    every phase.
    """
    for number, (phase, counts) in enumerate(zip(plan.phases, read, strict=True)):
        for part, (rows, tokens) in zip(phase.parts, counts, strict=False):
            if (rows, tokens) != (part.rows, part.tokens):
                raise TrainingError(
                    f"mixtures.{plan.mixture}.phases.{number}.parts.{part.corpus}: planned {part.rows:,} rows and "
                    f"{part.tokens:,} tokens, read {rows:,} and {tokens:,}: a fault of safelm/pretraining/batches.py"
                )
