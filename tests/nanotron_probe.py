"""Compute logits, losses and learning rates with the patched Nanotron, and write answers.npz.

Run it in the folder of a job with a checkpoint.

python -m tests.nanotron_probe
"""

from pathlib import Path

import numpy as np
import torch
import yaml

from safelm.pretraining import patches, worker
from safelm.pretraining.flash_attention import RotaryEmbedding
from safelm.pretraining.job import CONFIG, Job
from safelm.pretraining.schedule import rate_factor


def main() -> None:
    job = Job.read(Path())
    config = yaml.safe_load(Path(CONFIG).read_text(encoding="utf-8"))
    config["tokens"]["train_steps"] += 1
    Path(CONFIG).write_text(yaml.safe_dump(config), encoding="utf-8")
    worker.join()
    patches.install(job.rope_theta, job.decay_style, Path(str(job.start)))
    from safelm.pretraining.trainer import PlanTrainer

    model = PlanTrainer(Path(CONFIG), job).unwrapped_model.eval()
    ids = torch.randint(4, 60, (2, 33), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        logits = model.model(
            input_ids=ids, input_mask=torch.ones_like(ids, dtype=torch.bool)
        ).transpose(0, 1)
        for module in model.modules():
            if isinstance(module, RotaryEmbedding):
                module.base, module._cached = 300.0, None
        turned = model.model(
            input_ids=ids, input_mask=torch.ones_like(ids, dtype=torch.bool)
        ).transpose(0, 1)
        losses = [
            loss_of(model, ids[:1, :12]),
            loss_of(model, ids[1:, :20]),
            loss_of(model, ids[:1, :12], ids[1:, :20]),
        ]
        other = torch.cat([ids[:, :-1], ids[:, -1:] + 1], 1)
        masked = [
            loss_of(model, ids),
            loss_of(model, ids, mask=True),
            loss_of(model, other, mask=True),
        ]
    np.savez(
        "answers.npz",
        ids=ids,
        logits=logits,
        turned=turned,
        losses=losses,
        masked=masked,
        rates=rates(),
    )


def loss_of(model: torch.nn.Module, *documents: torch.Tensor, mask: bool = False) -> float:
    """Compute the loss of documents in one line; `mask` excludes the last label."""
    labels = torch.cat([document[:, 1:] for document in documents], 1)
    lengths = torch.tensor([document.shape[1] - 1 for document in documents])
    rows = torch.arange(int(lengths.max())) < lengths[:, None]
    if len(documents) == 1:
        rows = rows.expand(len(labels), -1)
    counted = torch.ones(labels.shape, dtype=torch.bool)
    if mask:
        counted[:, -1] = False
    inputs = torch.cat([document[:, :-1] for document in documents], 1)
    return float(
        model(input_ids=inputs, input_mask=rows, label_ids=labels, label_mask=counted)["loss"]
    )


def rates() -> list[list[float]]:
    """Compute Nanotron's own learning rates (helpers.py:75) and ours, for both of its styles."""
    from nanotron.config import LRSchedulerArgs
    from nanotron.helpers import lr_scheduler_builder

    class Base:
        @staticmethod
        def get_base_optimizer() -> torch.optim.Optimizer:
            return torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5)

    rows = []
    for style in ("linear", "cosine"):
        args = LRSchedulerArgs(0.5, 5, "linear", style, 12, 28, 0.05)
        nanotron_factor = lr_scheduler_builder(Base(), args, 40).lr_lambdas[0]
        rows.append([nanotron_factor(step) for step in range(41)])
        rows.append(
            [
                rate_factor(step, warmup=5, start=28, decay=12, low=0.1, style=style)
                for step in range(41)
            ]
        )
    return rows


if __name__ == "__main__":
    main()
