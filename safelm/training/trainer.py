"""Nanotron's trainer, reading the rows of a plan and keeping a curve. Importable only after `patches.install`."""

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from nanotron import distributed
from nanotron.trainer import DistributedTrainer
from tqdm import tqdm

from safelm.mixing.plan import Plan
from safelm.training.batches import Batches
from safelm.training.job import CURVE, READ, Job
from safelm.training.patches import cuda_is_cpu


class PlanTrainer(DistributedTrainer):
    """DistributedTrainer with our batches; steps, optimizer, parallelism and checkpoints are Nanotron's."""

    def __init__(self, config: Path, job: Job) -> None:
        with cuda_is_cpu():
            super().__init__(str(config))
        self.job, self.plan = job, Plan.read(Path(job.mixture))
        self.curve: list[str] = []
        ranks = self.parallel_context.dp_pg
        self.batches = Batches(
            self.plan, Path(job.mixture), job.seed, micro_batch=self.micro_batch_size,
            rank=distributed.get_rank(ranks), ranks=ranks.size(), start=self.start_iteration_step,
        )  # fmt: skip
        self.is_first = distributed.get_rank(self.parallel_context.world_pg) == 0

    def run(self) -> None:
        """Every step of the plan, one checkpoint, the curve and the counts."""
        hidden = not (self.is_first and sys.stderr.isatty())
        with tqdm(total=self.plan.steps, desc=f"pretrain/{self.job.model}", unit="step", disable=hidden) as self.bar:
            self.train(iter(self.batches))
        counts = self._over_ranks(torch.from_numpy(self.batches.given))
        if self.is_first:
            Path(CURVE).write_text("step,tokens,loss,learning_rate\n" + "".join(self.curve), encoding="utf-8")
            Path(READ).write_text(json.dumps(counts.tolist()), encoding="utf-8")

    def pre_training(self, *_: Any, **__: Any) -> None:
        """Nothing: Nanotron would start wandb wherever that is installed (trainer.py:235)."""

    def training_step(self, dataloader: Iterator[dict[str, torch.Tensor]]) -> Any:
        """A step; the learning rate is read before it, for the scheduler moves on at its end."""
        self.rate = self.lr_scheduler.get_last_lr()[0]
        return super().training_step(dataloader)

    def train_step_logs(self, outputs: Any, loss_avg: torch.Tensor) -> None:
        """A line of the curve. No clock: the time goes to the screen."""
        tokens = int(self._over_ranks(torch.tensor(int(self.batches.given[..., 1].sum()))))
        loss = loss_avg.item()
        if not math.isfinite(loss):
            raise FloatingPointError(
                f"pretrain/{self.job.model}: the loss is {loss} at step {self.iteration_step}; "
                "write a smaller recipe.learning_rate in the shape"
            )
        self.curve.append(f"{self.iteration_step},{tokens},{loss:.6f},{self.rate:.6g}\n")
        self.bar.set_postfix_str(f"loss {loss:.3f}", refresh=False)
        self.bar.update()

    def save_checkpoint(self) -> Path:
        """A checkpoint of Nanotron's own."""
        with cuda_is_cpu():
            return super().save_checkpoint()

    def _over_ranks(self, counts: torch.Tensor) -> torch.Tensor:
        """The sum over the ranks of data parallelism."""
        group = self.parallel_context.dp_pg
        if group.size() == 1:
            return counts
        counts = counts.clone().to("cuda" if torch.cuda.is_available() else "cpu")
        distributed.all_reduce(counts, group=group)
        return counts.cpu()
