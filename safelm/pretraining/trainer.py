"""Nanotron's trainer on the rows of a plan, with loss curves.

Import it after `patches.install`.
"""

import json
import math
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from itertools import accumulate
from pathlib import Path
from typing import Any

import torch
from nanotron import distributed
from nanotron.serialize.metadata import save_meta
from nanotron.serialize.weights import save_weights
from nanotron.trainer import DistributedTrainer
from tqdm import tqdm

from safelm.corpora.mixing.plan import Plan, PlannedPhase
from safelm.pretraining.batches import Batch, Batches, held_out_batches
from safelm.pretraining.checkpoint import CURVE, HELD_OUT, READ, commit, remove_old, share
from safelm.pretraining.config import CHECKPOINTS
from safelm.pretraining.cpu import cuda_as_cpu
from safelm.pretraining.job import Job
from safelm.pretraining.speed import SpeedLog
from safelm.pretraining.state import save_optimizer, state_file

CURVE_HEADER = "step,tokens,loss,learning_rate\n"
HELD_OUT_HEADER = "step,tokens,corpus,loss\n"


class PlanTrainer(DistributedTrainer):
    """Nanotron's DistributedTrainer with the batches of a plan and its own checkpoints.

    Steps, optimizer and parallelism are Nanotron's.
    """

    def __init__(self, config: Path, job: Job) -> None:
        with cuda_as_cpu():
            super().__init__(str(config))
        self.job = job
        self.mixture = Path(job.mixture)
        self.plan = Plan.read(self.mixture)
        # Lines of loss.csv and held_out.csv.
        self.curve: list[str] = []
        self.held_out: list[str] = []
        self.measured_steps = measured_steps(self.plan)
        world = self.parallel_context.world_pg
        data_ranks = self.parallel_context.dp_pg
        self.is_first = distributed.get_rank(world) == 0
        self.is_first_data_rank = distributed.get_rank(data_ranks) == 0
        self.batches = Batches(
            self.plan,
            self.mixture,
            job.seed,
            micro_batch=self.micro_batch_size,
            rank=distributed.get_rank(data_ranks),
            ranks=data_ranks.size(),
            start=self.start_iteration_step,
        )
        self.speed = SpeedLog(job.flops_per_token, world.size())

    def run(self) -> None:
        """Train the steps of the plan that are left, with a checkpoint at the end."""
        if self.job.start:
            self._restore(Path(self.job.start))
        else:
            self._measure_held_out(0, 0)
        self.bar = tqdm(
            total=self.plan.steps,
            initial=self.start_iteration_step,
            desc=f"pretrain/{self.job.model}",
            unit="step",
            disable=not (self.is_first and sys.stderr.isatty()),
        )
        with self.bar:
            self.train(iter(self.batches))
        if self.is_first:
            self.speed.write(Path(self.job.plots), self.job.model)

    def _restore(self, checkpoint: Path) -> None:
        """Continue the curves and counts of a checkpoint."""
        self.curve = _lines(checkpoint / CURVE)
        self.held_out = _lines(checkpoint / HELD_OUT)
        # The counts are sums over the data ranks, so only one of them continues from them.
        if self.is_first_data_rank:
            saved_counts = json.loads((checkpoint / READ).read_bytes())
            # The run that shared this checkpoint may go on with other phases.
            for counts, saved in zip(self.batches.read_counts, saved_counts, strict=False):
                parts = min(len(counts), len(saved))
                counts[:parts] = saved[:parts]

    def pre_training(self, *_: Any, **__: Any) -> None:
        """Do nothing: Nanotron would start wandb wherever it is installed (trainer.py:236)."""

    def training_step(self, dataloader: Iterator[Batch]) -> Any:
        """Train one step."""
        # Read now, because the scheduler moves on at the end of the step.
        self.learning_rate = self.lr_scheduler.get_last_lr()[0]
        return super().training_step(dataloader)

    def train_step_logs(self, outputs: Any, loss_avg: torch.Tensor) -> None:
        """Log a step, and save a checkpoint where one is due before the last step.

        Raises:
            FloatingPointError: the loss is not finite.
        """
        step = self.iteration_step
        loss = loss_avg.item()
        tokens_read = torch.tensor(int(self.batches.read_counts[..., 1].sum()))
        tokens = int(self._sum_over_data_ranks(tokens_read))
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"pretrain/{self.job.model}: the loss is {loss} at step {step}; "
                "write a smaller recipe.learning_rate in the shape"
            )
        # No times, because the same run must give the same bytes.
        self.curve.append(f"{step},{tokens},{loss:.6f},{self.learning_rate:.6g}\n")
        self.speed.step(step, tokens)
        if step in self.measured_steps:
            self._measure_held_out(step, tokens)
        self.bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        self.bar.update()
        is_due = step % self.job.checkpoint_interval == 0 or str(step) in self.job.shared
        # The last step is left to Nanotron, which saves at its interval: the length of the run.
        if is_due and step < self.plan.steps:
            self.save_checkpoint()

    def save_checkpoint(self) -> Path:
        """Save a checkpoint, complete or not at all; share it if the job says so."""
        target = Path(CHECKPOINTS, str(self.iteration_step))
        attempt = target.with_suffix(".attempt")
        if self.is_first:
            shutil.rmtree(attempt, ignore_errors=True)
            attempt.mkdir(parents=True)
        # No rank writes before the folder is there.
        distributed.barrier(self.parallel_context.world_pg)
        with cuda_as_cpu():
            self._write_checkpoint(attempt)
        # The record lists the files of every rank.
        distributed.barrier(self.parallel_context.world_pg)
        if self.is_first:
            commit(attempt, target, self.job.key)
            if shared := self.job.shared.get(target.name):
                share(target, Path(shared), Path(shared).name)
            remove_old(target.parent)
        return target

    def _write_checkpoint(self, folder: Path) -> None:
        """Write Nanotron's files, the optimizer as safetensors, the curves and the counts."""
        context = self.parallel_context
        config = self.config
        # Data-parallel ranks have the same weights and, without ZeRO, the same optimizer.
        if self.is_first_data_rank:
            rank = distributed.get_rank(context.tp_pg)
            ranks = context.tp_pg.size()
            save_weights(self.unwrapped_model, context, folder)
            save_optimizer(self.optimizer, folder / state_file(rank, ranks))
        read_counts = self._sum_over_data_ranks(torch.from_numpy(self.batches.read_counts))
        step = self.iteration_step
        samples = self.consumed_train_samples
        config.general.step = step
        config.general.consumed_train_samples = samples
        save_meta(context, folder, {"last_train_step": step, "consumed_train_samples": samples})
        if self.is_first:
            config.save_as_yaml(folder / "config.yaml")
            texts = {
                "model_config.json": json.dumps(asdict(self.model_config)),
                CURVE: CURVE_HEADER + "".join(self.curve),
                HELD_OUT: HELD_OUT_HEADER + "".join(self.held_out),
                READ: json.dumps(read_counts.tolist()),
            }
            for name, text in texts.items():
                (folder / name).write_text(text, encoding="utf-8")

    def _measure_held_out(self, step: int, tokens: int) -> None:
        """Log the loss on held-out rows of each corpus of the phase that `step` belongs to."""
        for part in phase_at(self.plan, step).parts:
            if self.plan.corpora[part.corpus].held_out:
                loss = self._held_out_loss(part.corpus)
                self.held_out.append(f"{step},{tokens},{part.corpus},{loss:.6f}\n")

    def _held_out_loss(self, corpus: str) -> float:
        """Return the mean loss of a token; every rank computes the same value."""
        device = "cuda" if torch.cuda.is_available() else "cpu"
        total = 0.0
        count = 0
        for batch in held_out_batches(self.plan, self.mixture, corpus, self.micro_batch_size):
            inputs = {name: value.to(device) for name, value in batch.items()}
            with torch.no_grad():
                loss = float(self.unwrapped_model(**inputs)["loss"])
            labels = batch["label_ids"].numel()
            total += loss * labels
            count += labels
        return total / count

    def _sum_over_data_ranks(self, counts: torch.Tensor) -> torch.Tensor:
        group = self.parallel_context.dp_pg
        if group.size() == 1:
            return counts
        counts = counts.clone().to("cuda" if torch.cuda.is_available() else "cpu")
        distributed.all_reduce(counts, group=group)
        return counts.cpu()


def measured_steps(plan: Plan) -> set[int]:
    """Return the steps that measure the held-out loss: powers of four and the ends of phases."""
    # Powers do not depend on a run's length: runs that share a beginning measure the same steps.
    powers = {4**power for power in range(32) if 4**power < plan.steps}
    return powers.union(accumulate(phase.steps for phase in plan.phases))


def phase_at(plan: Plan, step: int) -> PlannedPhase:
    """Return the phase that ends at or after a step."""
    ends = accumulate(phase.steps for phase in plan.phases)
    for phase, end in zip(plan.phases, ends, strict=True):
        if step <= end:
            return phase
    raise ValueError(f"expected a step up to {plan.steps:,} (got {step:,})")


def _lines(path: Path) -> list[str]:
    """Return the lines of a CSV file after its header."""
    return path.read_text(encoding="utf-8").splitlines(keepends=True)[1:]
