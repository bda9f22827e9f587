"""Nanotron's trainer, reading the rows of a plan and keeping a curve. Importable only after
`patches.install`.
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

from safelm.corpora.mixing.plan import Plan
from safelm.pretraining.batches import Batches, held_batches
from safelm.pretraining.checkpoint import CURVE, HELD_OUT, READ, commit, forget, share
from safelm.pretraining.config import CHECKPOINTS
from safelm.pretraining.job import Job
from safelm.pretraining.patches import cuda_is_cpu
from safelm.pretraining.speed import Speed
from safelm.pretraining.state import save_optimizer, state_file

HEAD = "step,tokens,loss,learning_rate\n"
HELD_HEAD = "step,tokens,corpus,loss\n"


class PlanTrainer(DistributedTrainer):
    """DistributedTrainer with our batches and checkpoints; steps, optimizer and parallelism are
    Nanotron's.
    """

    def __init__(self, config: Path, job: Job) -> None:
        with cuda_is_cpu():
            super().__init__(str(config))
        self.job, self.plan = job, Plan.read(Path(job.mixture))
        self.curve: list[str] = []
        self.held: list[str] = []
        self.measured = measured_steps(self.plan)
        context = self.parallel_context
        ranks = context.dp_pg
        self.batches = Batches(
            self.plan,
            Path(job.mixture),
            job.seed,
            micro_batch=self.micro_batch_size,
            rank=distributed.get_rank(ranks),
            ranks=ranks.size(),
            start=self.start_iteration_step,
        )
        self.speed = Speed(job.flops, context.world_pg.size())
        self.is_first = distributed.get_rank(context.world_pg) == 0
        self.is_first_of_data = distributed.get_rank(ranks) == 0

    def _go_on(self, checkpoint: Path) -> None:
        """Take the curves and counts of a checkpoint; the counts are sums, so one rank of data goes
        on from them.
        """
        self.curve, self.held = (
            (checkpoint / name).read_text(encoding="utf-8").splitlines(keepends=True)[1:]
            for name in (CURVE, HELD_OUT)
        )
        if self.is_first_of_data:
            for given, counts in zip(
                self.batches.given, json.loads((checkpoint / READ).read_bytes()), strict=False
            ):
                given[: len(counts)] = counts[
                    : len(given)
                ]  # the run that shared it may have other phases to come

    def run(self) -> None:
        """Every step of the plan that is left, with a checkpoint at its end."""
        if self.job.start:
            self._go_on(Path(self.job.start))
        else:
            self._measure(0, 0)
        hidden = not (self.is_first and sys.stderr.isatty())
        steps, done = self.plan.steps, self.start_iteration_step
        name = f"pretrain/{self.job.model}"
        with tqdm(total=steps, initial=done, desc=name, unit="step", disable=hidden) as self.bar:
            self.train(iter(self.batches))
        if self.is_first:
            self.speed.write(Path(self.job.plots), self.job.model)

    def pre_training(self, *_: Any, **__: Any) -> None:
        """Nothing: Nanotron would start wandb wherever that is installed (trainer.py:235)."""

    def training_step(self, dataloader: Iterator[dict[str, torch.Tensor]]) -> Any:
        """A step; the learning rate is read before it, for the scheduler moves on at its end."""
        self.rate = self.lr_scheduler.get_last_lr()[0]
        return super().training_step(dataloader)

    def train_step_logs(self, outputs: Any, loss_avg: torch.Tensor) -> None:
        """A line of the curve, which holds no clock, and a checkpoint where one is due before the
        last.
        """
        tokens = int(self._over_ranks(torch.tensor(int(self.batches.given[..., 1].sum()))))
        loss = loss_avg.item()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"pretrain/{self.job.model}: the loss is {loss} at step {self.iteration_step}; "
                "write a smaller recipe.learning_rate in the shape"
            )
        self.curve.append(f"{self.iteration_step},{tokens},{loss:.6f},{self.rate:.6g}\n")
        self.speed.step(self.iteration_step, tokens)
        if self.iteration_step in self.measured:
            self._measure(self.iteration_step, tokens)
        self.bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        self.bar.update()
        due = (
            self.iteration_step % self.job.every == 0 or str(self.iteration_step) in self.job.shared
        )
        if due and self.iteration_step < self.plan.steps:
            self.save_checkpoint()

    def save_checkpoint(self) -> Path:
        """Nanotron's files, with the optimizer as safetensors, the curve and the counts, committed
        as a whole.
        """
        target = Path(CHECKPOINTS, str(self.iteration_step))
        attempt = target.with_suffix(".attempt")
        if self.is_first:
            shutil.rmtree(attempt, ignore_errors=True)
            attempt.mkdir(parents=True)
        distributed.barrier(self.parallel_context.world_pg)
        with cuda_is_cpu():
            self._write(attempt)
        distributed.barrier(self.parallel_context.world_pg)
        if self.is_first:
            commit(attempt, target, self.job.key)
            if place := self.job.shared.get(target.name):
                share(target, Path(place), Path(place).name)
            forget(target.parent)
        return target

    def _write(self, folder: Path) -> None:
        context, config = self.parallel_context, self.config
        if self.is_first_of_data:
            group = context.tp_pg
            save_weights(self.unwrapped_model, context, folder)
            save_optimizer(
                self.optimizer, folder / state_file(distributed.get_rank(group), group.size())
            )
        counts = self._over_ranks(torch.from_numpy(self.batches.given)).tolist()
        config.general.step, config.general.consumed_train_samples = (
            self.iteration_step,
            self.consumed_train_samples,
        )
        save_meta(
            context,
            folder,
            {
                "last_train_step": self.iteration_step,
                "consumed_train_samples": self.consumed_train_samples,
            },
        )
        if self.is_first:
            config.save_as_yaml(folder / "config.yaml")
            (folder / "model_config.json").write_text(
                json.dumps(asdict(self.model_config)), encoding="utf-8"
            )
            (folder / CURVE).write_text(HEAD + "".join(self.curve), encoding="utf-8")
            (folder / HELD_OUT).write_text(HELD_HEAD + "".join(self.held), encoding="utf-8")
            (folder / READ).write_text(json.dumps(counts), encoding="utf-8")

    def _measure(self, step: int, tokens: int) -> None:
        """The loss on rows held out of each corpus of the phase that `step` belongs to; every rank
        does the same.
        """
        ends = accumulate(phase.steps for phase in self.plan.phases)
        phase = self.plan.phases[next(number for number, end in enumerate(ends) if step <= end)]
        for corpus in (
            part.corpus for part in phase.parts if self.plan.corpora[part.corpus].held_out
        ):
            total, count = 0.0, 0
            for batch in held_batches(
                self.plan, Path(self.job.mixture), corpus, self.micro_batch_size
            ):
                there = (
                    {name: value.to("cuda") for name, value in batch.items()}
                    if torch.cuda.is_available()
                    else batch
                )
                with torch.no_grad():
                    loss = float(self.unwrapped_model(**there)["loss"])
                labels = batch["label_ids"].numel()
                total, count = total + loss * labels, count + labels
            self.held.append(f"{step},{tokens},{corpus},{total / count:.6f}\n")

    def _over_ranks(self, counts: torch.Tensor) -> torch.Tensor:
        """The sum over the ranks of data parallelism."""
        group = self.parallel_context.dp_pg
        if group.size() == 1:
            return counts
        counts = counts.clone().to("cuda" if torch.cuda.is_available() else "cpu")
        distributed.all_reduce(counts, group=group)
        return counts.cpu()


def measured_steps(plan: Plan) -> set[int]:
    """Powers of four, and the end of each phase: steps that do not depend on how long a run is
    after them.
    """
    powers = {4**power for power in range(32) if 4**power < plan.steps}
    return powers | set(accumulate(phase.steps for phase in plan.phases))
