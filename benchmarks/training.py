"""What our data path costs training, and how Nanotron's step compares with a plain transformers
loop of the same model.

    python -m benchmarks.training                     nano, as `make repro` trains it
    python -m benchmarks.training --shape smollm2-360m --sequence 2048 --steps 50     on a GPU, in bfloat16

Three runs in processes of their own, one after another: our rows; the same trainer fed one random
batch of the same sizes for ever, so that nothing is read; and a transformers loop with AdamW over
our rows. Seconds are of the processor where there is no GPU (a busy machine counts for less), of
the clock where there is one."""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from safelm.builder.digest import md5_and_sha256
from safelm.builder.manifest import File, Ledger, Manifest, ManifestEntry
from safelm.corpora.mixing.mixture import build_mixture
from safelm.corpora.mixing.plan import Plan
from safelm.pretraining.batches import Batches
from safelm.pretraining.config import nanotron_config, write_config
from safelm.pretraining.convert import architecture
from safelm.pretraining.cost import flops_per_token
from safelm.pretraining.job import CONFIG, Job
from safelm.pretraining.process import environment
from safelm.pretraining.speed import peak_flops
from specs.mixture import Phase
from specs.shape import Shape

KINDS = {"ours": "our rows", "random": "one random batch", "transformers": "transformers loop"}
WARM_UP = 5  # steps before the clock starts


def corpus(folder: Path, vocabulary: int, tokens: int, sequence: int) -> Path:
    """Random documents of half a row on average, tokenized."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(1)
    lengths = draw.integers(sequence // 5, sequence * 4 // 5, 1 + 2 * tokens // sequence)
    ends = np.cumsum(lengths)
    values = draw.integers(4, vocabulary, ends[-1])
    values[ends - 1] = 0
    values.astype("<u2").tofile(folder / "00000.ds")
    ends.astype("<u8").tofile(folder / "00000.ds.index")
    files = [
        File(
            suffix,
            len(ends),
            (folder / f"00000{suffix}").stat().st_size,
            *md5_and_sha256(folder / f"00000{suffix}"),
        )
        for suffix in (".ds", ".ds.index")
    ]
    Manifest(
        "tokenize/web",
        (("00000", ManifestEntry("00000", tuple(files), Ledger(len(ends), len(ends)))),),
    ).write(folder)
    return folder


def prepare(folder: Path, asked: argparse.Namespace) -> None:
    """A run of `steps` steps, as launch.py would start it."""
    shape = Shape.read(asked.shape)
    layout = "packed" if asked.packed else "document"
    tokens = int(asked.steps * shape.recipe.batch * asked.sequence * (1 if asked.packed else 0.5))
    source = corpus(folder / "tokenize", shape.vocabulary, 2 * tokens, asked.sequence)
    mixture = folder / "mix"
    mixture.mkdir()
    phases = [Phase(share=1, proportions="natural", parts={"web": 1.0})]
    plan = build_mixture(
        "b",
        phases,
        {"web": source},
        {"web": 9.0},
        {},
        tokens=tokens,
        sequence_length=asked.sequence,
        layout=layout,
        batch_size=shape.recipe.batch,
        seed=1,
        held_out_rows=0,
        vocabulary=shape.vocabulary,
        tag=3,
        folder=mixture,
    )
    run = folder / "run"
    run.mkdir()
    shape = shape.model_copy(update={"recipe": shape.recipe.model_copy(update={"warmup": 0.1})})
    write_config(nanotron_config("b", shape, plan, 1, 1, 1), run / CONFIG)
    flops = flops_per_token(shape, plan.sequence)
    Job(
        "b",
        str(mixture),
        1,
        shape.rope_theta,
        "linear",
        "",
        1 << 30,
        None,
        flops,
        str(folder / "plots"),
        {},
    ).write(run)


def clock() -> float:
    """Seconds, of the processor or, with a GPU, of the clock."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def measured(plan: Plan, on_step: Callable[[Callable[[], None]], None]) -> dict[str, float]:
    """Seconds and tokens of the steps after the warm-up; `on_step` trains, and calls its argument
    after each step.
    """
    times: list[float] = []
    on_step(lambda: times.append(clock()))
    share = (len(times) - WARM_UP) / plan.steps
    return {
        "seconds": times[-1] - times[WARM_UP - 1],
        "tokens": plan.tokens * share,
        "peak": peak_flops(clock) or 0.0,
    }


def nanotron(job: Job, kind: str) -> dict[str, float]:
    """The trainer of `pretrain`, over our rows or over one batch that is made before."""
    from safelm.pretraining import patches, worker

    worker.join()
    patches.install(job.rope_theta, job.decay_style, None)
    from safelm.pretraining.trainer import PlanTrainer

    trainer = PlanTrainer(Path(CONFIG), job)

    def train(done: Callable[[], None]) -> None:
        logs = trainer.train_step_logs

        def log(outputs: object, loss_avg: torch.Tensor) -> None:
            logs(outputs=outputs, loss_avg=loss_avg)
            done()

        trainer.train_step_logs = log
        if kind == "random":
            fixed = next(iter(trainer.batches))
            trainer.batches = Repeated(fixed, trainer.batches.given)
        trainer.batches = timed = Timed(trainer.batches)
        trainer.save_checkpoint = lambda: Path()
        trainer.run()
        reading.append(timed.seconds)

    reading: list[float] = []
    found, left = measured(trainer.plan, train), trainer.plan.steps - WARM_UP
    if kind == "random":
        found["tokens"] = left * trainer.batches.batches.batch["label_ids"].numel()
    return {**found, "reading": reading[0] * left / trainer.plan.steps}


class Timed:
    """Batches, and how long it takes to make them."""

    def __init__(self, batches: "Batches | Repeated") -> None:
        self.batches, self.given, self.seconds = batches, batches.given, 0.0

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        began = clock()
        for batch in self.batches:
            self.seconds += clock() - began
            yield batch
            began = clock()


class Repeated:
    """One batch for ever, counted as the rows of the plan are."""

    def __init__(self, batch: dict[str, torch.Tensor], given: np.ndarray) -> None:
        self.batch, self.given = batch, given

    def __iter__(self) -> Iterator[dict[str, torch.Tensor]]:
        for batch in repeat(self.batch):
            self.given[0, 0] += len(batch["input_mask"]), batch["label_ids"].numel()
            yield batch


def transformers(job: Job, shape: Shape) -> dict[str, float]:
    """AdamW over padded rows, written as one would by hand."""
    from transformers.models.llama import LlamaConfig, LlamaForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig.from_dict(architecture(shape))).to(
        device, getattr(torch, shape.dtype)
    )
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    plan = Plan.read(Path(job.mixture))

    def train(done: Callable[[], None]) -> None:
        for batch in Batches(plan, Path(job.mixture), 1, micro_batch=plan.batch):
            mask = batch["input_mask"]
            inputs, labels = torch.zeros(mask.shape, dtype=torch.long), torch.full(mask.shape, -100)
            inputs[mask], labels[mask] = batch["input_ids"].flatten(), batch["label_ids"].flatten()
            logits = model(input_ids=inputs.to(device), attention_mask=mask.to(device)).logits
            torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), labels.to(device).flatten()
            ).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            done()

    return measured(plan, train)


def main() -> None:
    """Run the three and print them; with --kind, be one of them."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", default="nano")
    parser.add_argument("--sequence", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--packed", action="store_true")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.kind:
        job, shape = Job.read(Path()), Shape.read(asked.shape)
        print(
            json.dumps(
                transformers(job, shape)
                if asked.kind == "transformers"
                else nanotron(job, asked.kind)
            )
        )
        return
    with TemporaryDirectory() as folder:
        prepare(Path(folder), asked)
        found = {kind: one(kind, Path(folder) / "run") for kind in KINDS}
    rates = {kind: row["tokens"] / row["seconds"] for kind, row in found.items()}
    flops = flops_per_token(Shape.read(asked.shape), asked.sequence)
    print(
        f"{asked.shape}, rows of {asked.sequence}, {asked.steps} steps; {'GPU' if torch.cuda.is_available() else 'CPU'}"
    )
    print(f"{'':22}{'tokens/s':>12}{'/ ours':>9}{'MFU':>8}")
    for kind, rate in rates.items():
        mfu = f"{rate * flops / found[kind]['peak']:8.1%}" if found[kind]["peak"] else "       –"
        print(f"{KINDS[kind]:22}{rate:12,.0f}{rate / rates['ours']:9.3f}{mfu}")
    print(
        f"making our batches takes {found['ours']['reading'] / found['ours']['seconds']:.2%} of the time of a step"
    )


def one(kind: str, run: Path) -> dict[str, float]:
    """What a process of one kind measured."""
    command = [sys.executable, "-m", "benchmarks.training", "--kind", kind, *sys.argv[1:]]
    done = subprocess.run(
        command, cwd=run, env={**os.environ, **environment(1)}, stdout=subprocess.PIPE, check=True
    )
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()
