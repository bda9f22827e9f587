"""Shared beginnings: runs with the same first phases train them once.

At the end of a phase a run shares its checkpoint under a key of everything that determines it:
rows, shape, seed, recipe and the learning rate of every step. Another run with that key continues
from it, and ends with the same bytes as if it had trained alone. If the checkpoint is not finished
yet, that run waits.
"""

import fcntl
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path

from safelm.builder.digest import json_digest
from safelm.builder.files import Json
from safelm.corpora.mixing.plan import Plan
from safelm.pretraining.checkpoint import Checkpoint, is_intact
from safelm.pretraining.schedule import learning_rates
from specs.shape import Shape

# The settings in which runs that share a beginning may differ.
RUN_SETTINGS = (
    ("general", "run"),
    ("checkpoints", "checkpoint_interval"),
    ("tokens", "train_steps"),
    ("optimizer", "learning_rate_scheduler"),
)


def prefix_keys(
    plan: Plan,
    shape: Shape,
    config: Json,
    versions: list[str],
) -> dict[int, str]:
    """Return the key of the end of each phase but the last, by step.

    Args:
        plan: the mixture's plan.
        shape: architecture and training recipe.
        config: Nanotron's configuration.
        versions: the digest of the code and the versions of libraries.
    """
    common = deepcopy(config)
    for block, name in RUN_SETTINGS:
        del common[block][name]
    # The end of the last phase is the end of the run, which nothing continues.
    ends = list(accumulate(phase.steps for phase in plan.phases))[:-1]
    rates: list[float] = []
    if ends:
        rates = learning_rates(shape.recipe, plan.steps, plan.full_steps, ends[-1])
    cut = [plan.layout, plan.sequence, plan.batch, plan.seed]
    cut += [plan.held_out, plan.width, plan.vocabulary]
    # Of the recipe only the learning rates up to the end count, and they are in the key.
    architecture = shape.model_dump(exclude={"recipe"})
    keys = {}
    files = {}
    phases = []
    for phase, end in zip(plan.phases, ends, strict=False):
        phases.append(asdict(phase))
        for part in phase.parts:
            files[part.corpus] = plan.corpora[part.corpus].files
        values = [cut, phases, files, architecture, common, rates[:end], versions]
        keys[end] = json_digest(values)
    return keys


@contextmanager
def longest_prefix(shared: Path, keys: dict[int, str], name: str) -> Iterator[Checkpoint | None]:
    """Yield the checkpoint of the longest shared beginning, or None.

    Until the context ends, no other run trains the beginnings that are missing.

    Args:
        shared: the folder of shared checkpoints.
        keys: the keys of the run, by step.
        name: the run's name, for the message of a run that waits.
    """
    shared.mkdir(parents=True, exist_ok=True)
    checkpoint = None
    with ExitStack() as locks:
        # Every run claims beginnings in the order of steps, so that no two wait for each other.
        for step, key in sorted(keys.items()):
            message = f"{name}: waits for its first {step:,} steps, which another run is training"
            if _claim(shared, key, message, locks):
                checkpoint = Checkpoint(step, shared / key)
        yield checkpoint


def _claim(shared: Path, key: str, message: str, locks: ExitStack) -> bool:
    """Wait until the checkpoint exists (True), or this run has the lock to train it (False)."""
    lock = locks.enter_context((shared / f"{key}.lock").open("w"))
    is_waiting = False
    while not (shared / key).is_dir():
        try:
            # The kernel releases the lock of a run that is killed.
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not is_waiting:
                print(message, file=sys.stderr, flush=True)
            is_waiting = True
            time.sleep(1)
    # Another run may have shared it and ended while this one waited for the lock.
    if not (shared / key).is_dir():
        return False
    if is_intact(shared / key, key):
        return True
    # It is damaged, so this run trains it again.
    shutil.rmtree(shared / key)
    return False
