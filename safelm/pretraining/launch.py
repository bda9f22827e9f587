"""Pretraining of a model: the training process is started, and must follow its plan."""

import shutil
import time
from dataclasses import asdict, replace
from importlib.metadata import version
from pathlib import Path

from safelm.builder.digest import file_digest, json_digest
from safelm.builder.environment import environment_number
from safelm.builder.fingerprint import code_digest
from safelm.builder.paths import scratch
from safelm.corpora.mixing.plan import Plan
from safelm.models.weights import Weights
from safelm.pretraining.checkpoint import Checkpoint, newest
from safelm.pretraining.config import CHECKPOINTS, nanotron_config, write_config
from safelm.pretraining.cost import flops_per_token
from safelm.pretraining.job import CONFIG, Job
from safelm.pretraining.prefix import longest_prefix, prefix_keys
from safelm.pretraining.process import TrainingError, run_training
from safelm.pretraining.publish import Trained, publish
from safelm.pretraining.start import Start
from specs.llama import StartError
from specs.shape import Continued, Shape, shape_of_weights


def pretrain_model(
    folder: Path,
    *,
    model: str,
    shape: Shape | Continued,
    mixture: Path,
    tokenizer: Path,
    seed: int,
    weights: Weights | None,
) -> list[str]:
    """Pretrain a model as the stage `pretrain` does, and return the lines that it prints.

    Raises StartError if neither shape nor weights have an architecture.
    """
    start = Start.open(weights, tokenizer) if weights else None
    if start:
        shape = shape_of_weights(shape, start.folder, Plan.read(mixture).vocabulary)
    elif isinstance(shape, Continued):
        raise StartError(f"models.{model}: expected `start`, as its shape has no architecture")
    trained = pretrain(
        model,
        shape,
        mixture,
        tokenizer,
        seed=seed,
        scratch_folder=scratch(),
        folder=folder,
        start=start,
    )
    return [trained.summary(f"pretrain/{model}")]


def pretrain(
    model: str,
    shape: Shape,
    mixture: Path,
    tokenizer: Path,
    *,
    seed: int,
    scratch_folder: Path,
    folder: Path,
    start: Start | None = None,
) -> Trained:
    """Train a model of a shape on a mixture and write its folder.

    A run that was killed continues from its last checkpoint and ends with the same bytes.

    Args:
        model: the model's name.
        shape: its architecture and training recipe.
        mixture: the folder of the mixture.
        tokenizer: the folder of the tokenizer.
        seed: seeds the weights and the order of the rows.
        scratch_folder: has the run in pretrain/<model>, the ends of phases that runs have in common
            in prefixes/, and the speed of the run in plots/.
        folder: gets the Hugging Face model, Nanotron's checkpoint (nanotron/), loss.csv,
            held_out.csv and train.json.
        start: weights to start from, of this shape; None to train from scratch.

    Raises:
        TrainingError: the plan does not fit the shape, or training failed.
    """
    plan = Plan.read(mixture)
    check_plan(plan, shape, mixture)
    dp = environment_number("SAFELM_DP") or 1
    tp = environment_number("SAFELM_TP") or 1
    # Named by the digest, so that it is in the keys of the run and its beginnings.
    weights = f"start/{start.digest}" if start else None
    config = nanotron_config(model, shape, plan, seed, dp, tp, weights)
    versions = code_versions(start)
    key = json_digest([asdict(plan), shape.model_dump(), config, versions])
    keys = prefix_keys(plan, shape, config, versions)
    run = scratch_folder / "pretrain" / model
    shared = scratch_folder / "prefixes"
    job = Job(
        model=model,
        mixture=str(mixture.resolve()),
        seed=seed,
        rope_theta=shape.rope_theta,
        decay_style=shape.recipe.decay_style,
        key=key,
        checkpoint_interval=checkpoint_interval(plan.steps),
        start=None,
        flops_per_token=flops_per_token(shape, plan.sequence),
        plots=str((scratch_folder / "plots").resolve()),
        shared={str(step): str((shared / name).resolve()) for step, name in keys.items()},
    )
    began = time.monotonic()
    with longest_prefix(shared, keys, f"pretrain/{model}") as prefix:
        # A run that was killed beyond its shared beginning continues from its own checkpoint.
        own = newest(run / CHECKPOINTS, key)
        checkpoints = filter(None, [own, prefix])
        first = max(checkpoints, key=lambda checkpoint: checkpoint.step, default=None)
        resumed_tokens = first.tokens if first else 0
        prepare_run(run, own)
        if start and weights and first is None:
            start.write_checkpoint(shape, seed, run / weights)
        # A run that was killed after its last step only needs to be published.
        if first is None or first.step < plan.steps:
            write_config(config, run / CONFIG)
            replace(job, start=str(first.folder.resolve()) if first else None).write(run)
            run_training(run, dp * tp)
    last = newest(run / CHECKPOINTS, key)
    if last is None or last.step != plan.steps:
        raise TrainingError(
            f"{run}: expected an intact checkpoint of step {plan.steps:,}; run the stage again"
        )
    trained = publish(model, shape, plan, tokenizer, last.folder, folder, start)
    seconds = time.monotonic() - began
    return replace(trained, resumed_tokens=resumed_tokens, seconds=seconds)


def check_plan(plan: Plan, shape: Shape, mixture: Path) -> None:
    """Raise TrainingError if the plan does not fit the shape, or a token file is not the plan's."""
    if plan.vocabulary > shape.vocab_size:
        raise TrainingError(
            f"{mixture}: the tokenizer has {plan.vocabulary:,} tokens, the shape has room for "
            f"{shape.vocab_size:,}; write a smaller tokenizer.vocab_size or choose a larger shape"
        )
    if plan.sequence > shape.positions:
        raise TrainingError(
            f"{mixture}: a row has {plan.sequence:,} positions, the shape {shape.positions:,}; "
            "write a smaller sequence_length in the budget or choose a larger shape"
        )
    for corpus, planned in plan.corpora.items():
        for name, sha256 in planned.files.items():
            path = mixture / "tokens" / corpus / name
            if not path.is_file() or file_digest(path) != sha256:
                raise TrainingError(
                    f"{path}: is not the file of the plan; run `dvc repro` to plan again"
                )


def code_versions(start: Start | None) -> list[str]:
    """Return a digest of the training code and the versions of the libraries that compute.

    They are part of a run's key, so a checkpoint of other code or versions is never continued.
    """
    modules = ["safelm.pretraining.worker"]
    if start:
        modules.append("safelm.pretraining.start")
    libraries = [version(name) for name in ("nanotron", "torch", "numpy")]
    return [code_digest(modules), *libraries]


def checkpoint_interval(steps: int) -> int:
    """Return the steps between checkpoints: SAFELM_CHECKPOINT_STEPS, or a quarter of the run.

    No byte of a model depends on it.
    """
    return environment_number("SAFELM_CHECKPOINT_STEPS") or max(1, min(1000, steps // 4))


def prepare_run(run: Path, own: Checkpoint | None) -> None:
    """Remove the files of an earlier run, except its checkpoints if `own` is continued."""
    if own is None:
        shutil.rmtree(run, ignore_errors=True)
    # A run that was killed while it saved leaves these.
    for path in (run / CHECKPOINTS).glob("*.attempt"):
        shutil.rmtree(path)
    (run / CHECKPOINTS).mkdir(parents=True, exist_ok=True)
