"""Shared beginnings: runs whose first phases are the same train them once, and each ends as if it
had trained alone.

At the end of a phase a run leaves its checkpoint under a key of everything that led to it: rows,
shape, seed, recipe and the learning rate of every step. Another run with that key goes on from
there; one that comes too early waits."""

import fcntl
import hashlib
import json
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from copy import deepcopy
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import IO, Any

from safelm.corpora.mixing.plan import Plan
from safelm.pretraining.checkpoint import Checkpoint, is_whole
from safelm.pretraining.schedule import rates
from specs.shape import Shape

OF_THE_RUN = (
    ("general", "run"),
    ("checkpoints", "checkpoint_interval"),
    ("tokens", "train_steps"),
    ("optimizer", "learning_rate_scheduler"),
)  # what may differ between runs that share


def prefix_keys(
    plan: Plan, shape: Shape, config: dict[str, Any], makers: list[str]
) -> dict[int, str]:
    """The key of each phase but the last, by the step at which it ends; `makers` are code and
    libraries.
    """
    own = deepcopy(config)
    for block, name in OF_THE_RUN:
        del own[block][name]
    ends = list(accumulate(phase.steps for phase in plan.phases))
    laws = rates(shape.recipe, plan.steps, plan.full_steps, ends[-2]) if ends[1:] else []
    return {
        end: _key(plan, number, shape, own, laws[:end], makers)
        for number, end in enumerate(ends[:-1], 1)
    }


def _key(
    plan: Plan,
    phases: int,
    shape: Shape,
    config: dict[str, Any],
    laws: list[float],
    makers: list[str],
) -> str:
    begun = plan.phases[:phases]
    files = {
        part.corpus: plan.corpora[part.corpus].files for phase in begun for part in phase.parts
    }
    cut = [
        plan.layout,
        plan.sequence,
        plan.batch,
        plan.seed,
        plan.held_out,
        plan.width,
        plan.vocabulary,
    ]
    architecture = shape.model_dump(exclude={"recipe"})
    parts = [cut, [asdict(phase) for phase in begun], files, architecture, config, laws, makers]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


@contextmanager
def longest(shared: Path, keys: dict[int, str], name: str) -> Iterator[Checkpoint | None]:
    """The checkpoint of the longest beginning that there is; meanwhile nobody else trains those
    that there are not.
    """
    shared.mkdir(parents=True, exist_ok=True)
    found = None
    with ExitStack() as held:
        for step, key in sorted(keys.items()):
            if _claim(
                shared,
                key,
                f"{name}: waits for its first {step:,} steps, which another run is training",
                held,
            ):
                found = Checkpoint(step, shared / key)
        yield found


def _claim(shared: Path, key: str, waiting: str, held: ExitStack) -> bool:
    """Wait until there is a checkpoint of this key, which is True, or until it is ours to make."""
    lock: IO[str] = held.enter_context((shared / f"{key}.lock").open("w"))
    told = False
    while not (shared / key).is_dir():
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            break
        except BlockingIOError:
            if not told:
                print(waiting, file=sys.stderr, flush=True)
            told = True
            time.sleep(1)
    if not (shared / key).is_dir():
        return False
    if is_whole(shared / key, key):
        return True
    shutil.rmtree(shared / key)  # damaged: it is made again
    return False
