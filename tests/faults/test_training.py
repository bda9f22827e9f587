"""Training killed at any moment, even inside a save, ends in the same bytes."""

import multiprocessing
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from safelm.pretraining.config import CHECKPOINTS
from safelm.pretraining.launch import pretrain
from safelm.pretraining.process import TrainingError
from safelm.pretraining.publish import Trained
from specs.shape import Shape
from tests.test_pretrain import flip, planned
from tests.token_files import write_tokenizer

TINY = Shape.read("nano").model_copy(
    update={"hidden": 16, "layers": 1, "ffn": 32, "heads": 2, "kv_heads": 2}
)
KINDS = (
    "inside a save",
    "the newest checkpoint damaged",
    *["the launcher"] * 4,
    *["the worker"] * 4,
)
PATIENCE = 300  # seconds, for a busy machine
Outcome = dict[str, bytes]


class Run:
    """A training run of 39 steps in a folder of its own."""

    def __init__(self, folder: Path, project: Path) -> None:
        self.folder, self.project = folder, project
        self.checkpoints = folder / "scratch/pretrain/tiny" / CHECKPOINTS

    @property
    def steps(self) -> list[int]:
        """List the steps of the checkpoints that exist."""
        return sorted(
            int(path.name) for path in self.checkpoints.glob("[0-9]*") if path.name.isdigit()
        )

    def to_the_end(self) -> Trained:
        """Train to the end; the outcome is in `out`."""
        shutil.rmtree(self.folder / "out", ignore_errors=True)
        (self.folder / "out").mkdir(parents=True)
        build = self.project / "build"
        return pretrain(
            "tiny",
            TINY,
            build / "mix/tiny",
            build / "tokenizer",
            seed=7,
            scratch_folder=self.folder / "scratch",
            folder=self.folder / "out",
        )

    def outcome(self) -> Outcome:
        """Return every file that was made: weights, curve, checkpoint, summary."""
        out = self.folder / "out"
        return {
            str(path.relative_to(out)): path.read_bytes()
            for path in sorted(out.rglob("*"))
            if path.is_file()
        }

    def killed(self, moment: Callable[[], None], launcher: bool) -> None:
        """Start training and kill it, launcher or worker, at a moment; none of it lives on."""
        process = multiprocessing.get_context("fork").Process(target=self._quietly)
        process.start()
        (worker,) = until(psutil.Process(process.pid).children)
        moment()
        (psutil.Process(process.pid) if launcher else worker).kill()
        process.join(PATIENCE)
        worker.wait(PATIENCE)

    def _quietly(self) -> None:
        try:
            self.to_the_end()
        except TrainingError:  # its worker was killed
            raise SystemExit(1) from None


def until(happens: Callable[[], object]) -> Any:
    """Wait for a condition and return its value."""
    deadline = time.monotonic() + PATIENCE
    while not (found := happens()):
        assert time.monotonic() < deadline
        time.sleep(0.0005)
    return found


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("training")
    planned(folder)
    write_tokenizer(folder / "build/tokenizer", 64)
    return folder


@pytest.fixture(scope="module")
def alone(project: Path) -> tuple[Outcome, float]:
    """Train without a kill; return the outcome and the seconds."""
    run = Run(project / "alone", project)
    began = time.monotonic()
    assert run.to_the_end().resumed_tokens == 0
    return run.outcome(), time.monotonic() - began


@pytest.mark.cases(quick=3, full=50)
def test_a_killed_run_ends_in_the_same_bytes(
    case: int,
    project: Path,
    alone: tuple[Outcome, float],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    outcome, seconds = alone
    draw, kind, run = random.Random(case), KINDS[case % len(KINDS)], Run(tmp_path, project)
    monkeypatch.setenv("SAFELM_CHECKPOINT_STEPS", str(draw.choice([2, 3, 5])))

    def moment() -> None:
        step = draw.randrange(34)
        if kind == "inside a save":
            until(
                lambda: (
                    step <= max(run.steps, default=0) + 5
                    and list(run.checkpoints.glob("*.attempt"))
                )
            )
        elif kind == "the newest checkpoint damaged":
            until(lambda: len(run.steps) > 1)
        elif step < 5:
            time.sleep(draw.uniform(0, seconds / 2))
        else:
            until(lambda: max(run.steps, default=0) >= step)
            time.sleep(draw.uniform(0, 0.03))

    run.killed(moment, launcher=kind != "the worker")
    left, damaged = run.steps, kind == "the newest checkpoint damaged"
    assert 39 not in left
    if damaged:
        flip(next((run.checkpoints / str(left[-1]) / "optimizer").iterdir()))
    done = run.to_the_end()
    assert run.outcome() == outcome
    assert (done.resumed_tokens > 0) == (len(left) > damaged)
