"""The cost of our data path in training, and Nanotron's step beside a plain transformers loop.

    python -m benchmarks.training                                                     nano
    python -m benchmarks.training --shape smollm2-360m --sequence 2048 --steps 50     on a GPU

Three runs, one after another, in processes of their own: our rows; the same trainer with one random
batch of the same size again and again, so that nothing is read; and a transformers loop with AdamW
over our rows. Without a GPU, seconds are CPU seconds, so that a busy machine counts for less.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch

from safelm.builder.digest import md5_and_sha256
from safelm.builder.manifest import File, Ledger, Manifest, ManifestEntry
from safelm.corpora.mixing.mixture import build_mixture
from safelm.corpora.mixing.plan import Plan
from safelm.pretraining.batches import Batch, Batches
from safelm.pretraining.config import nanotron_config, write_config
from safelm.pretraining.convert import architecture
from safelm.pretraining.cost import flops_per_token
from safelm.pretraining.job import CONFIG, Job
from safelm.pretraining.process import environment
from safelm.pretraining.speed import peak_flops
from specs.mixture import Phase
from specs.shape import Shape

KINDS = {"ours": "our rows", "random": "one random batch", "transformers": "transformers loop"}
# Steps before the clock starts.
WARM_UP = 5


def write_corpus(folder: Path, vocabulary: int, tokens: int, sequence: int) -> Path:
    """Write a tokenized corpus of random documents, half a row long on average."""
    folder.mkdir(parents=True)
    draw = np.random.default_rng(1)
    lengths = draw.integers(sequence // 5, sequence * 4 // 5, 1 + 2 * tokens // sequence)
    ends = np.cumsum(lengths)
    values = draw.integers(4, vocabulary, ends[-1])
    values[ends - 1] = 0
    values.astype("<u2").tofile(folder / "00000.ds")
    ends.astype("<u8").tofile(folder / "00000.ds.index")
    documents = len(ends)
    files = []
    for suffix in (".ds", ".ds.index"):
        path = folder / f"00000{suffix}"
        files.append(File(suffix, documents, path.stat().st_size, *md5_and_sha256(path)))
    entry = ManifestEntry("00000", tuple(files), Ledger(documents, documents))
    Manifest("tokenize/web", (("00000", entry),)).write(folder)
    return folder


def prepare_run(folder: Path, options: argparse.Namespace) -> Path:
    """Prepare a run of `steps` steps as launch.py does, and return its folder."""
    shape = Shape.read(options.shape)
    row_tokens = options.sequence if options.packed else options.sequence / 2
    tokens = int(options.steps * shape.recipe.batch * row_tokens)
    corpus = write_corpus(folder / "tokenize", shape.vocabulary, 2 * tokens, options.sequence)
    mixture = folder / "mix"
    mixture.mkdir()
    plan = build_mixture(
        "benchmark",
        [Phase(share=1, proportions="natural", parts={"web": 1.0})],
        {"web": corpus},
        {"web": 9.0},
        {},
        tokens=tokens,
        sequence_length=options.sequence,
        layout="packed" if options.packed else "document",
        batch_size=shape.recipe.batch,
        seed=1,
        held_out_rows=0,
        vocabulary=shape.vocabulary,
        tag=3,
        folder=mixture,
    )
    run = folder / "run"
    run.mkdir()
    # The warm-up of a large shape may be longer than the benchmark.
    recipe = shape.recipe.model_copy(update={"warmup": 0.1})
    shape = shape.model_copy(update={"recipe": recipe})
    write_config(nanotron_config("benchmark", shape, plan, 1, 1, 1), run / CONFIG)
    job = Job(
        model="benchmark",
        mixture=str(mixture),
        seed=1,
        rope_theta=shape.rope_theta,
        decay_style="linear",
        key="",
        checkpoint_interval=1 << 30,
        start=None,
        flops_per_token=flops_per_token(shape, plan.sequence),
        plots=str(folder / "plots"),
        shared={},
    )
    job.write(run)
    return run


def clock() -> float:
    """Return seconds: those of the CPU, or with a GPU those of the wall clock."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.process_time()


def measure(plan: Plan, train: Callable[[Callable[[], None]], None]) -> dict[str, float]:
    """Measure seconds and tokens of the steps after the warm-up.

    `train` trains, and calls its argument after each step.
    """
    times: list[float] = []
    train(lambda: times.append(clock()))
    share = (len(times) - WARM_UP) / plan.steps
    return {
        "seconds": times[-1] - times[WARM_UP - 1],
        "tokens": plan.tokens * share,
        "peak": peak_flops(clock) or 0.0,
    }


def measure_nanotron(job: Job, kind: str) -> dict[str, float]:
    """Measure the trainer of `pretrain` over our rows, or over one batch."""
    from safelm.pretraining import patches, worker

    worker.join()
    patches.install(job.rope_theta, job.decay_style, None)
    # It imports Nanotron, which must be patched first.
    from safelm.pretraining.trainer import PlanTrainer

    trainer = PlanTrainer(Path(CONFIG), job)
    if kind == "random":
        batch = next(iter(trainer.batches))
        trainer.batches = RepeatedBatch(batch, trainer.batches.read_counts)
    batches = trainer.batches = TimedBatches(trainer.batches)
    log_step = trainer.train_step_logs

    def train(on_step: Callable[[], None]) -> None:
        def log(outputs: object, loss_avg: torch.Tensor) -> None:
            log_step(outputs=outputs, loss_avg=loss_avg)
            on_step()

        trainer.train_step_logs = log
        trainer.save_checkpoint = lambda: Path()
        trainer.run()

    values = measure(trainer.plan, train)
    steps = trainer.plan.steps
    if kind == "random":
        values["tokens"] = (steps - WARM_UP) * batch["label_ids"].numel()
    return {**values, "reading": batches.seconds * (steps - WARM_UP) / steps}


class RepeatedBatch:
    """One batch for ever, counted as the rows of a plan are."""

    def __init__(self, batch: Batch, read_counts: np.ndarray) -> None:
        self.batch = batch
        self.read_counts = read_counts

    def __iter__(self) -> Iterator[Batch]:
        while True:
            rows = len(self.batch["input_mask"])
            self.read_counts[0, 0] += rows, self.batch["label_ids"].numel()
            yield self.batch


class TimedBatches:
    """Batches, and the seconds that it takes to make them."""

    def __init__(self, batches: Batches | RepeatedBatch) -> None:
        self.batches = batches
        self.read_counts = batches.read_counts
        self.seconds = 0.0

    def __iter__(self) -> Iterator[Batch]:
        began = clock()
        for batch in self.batches:
            self.seconds += clock() - began
            yield batch
            began = clock()


def measure_transformers(job: Job, shape: Shape) -> dict[str, float]:
    """Measure AdamW over padded rows, written as one would by hand."""
    from transformers.models.llama import LlamaConfig, LlamaForCausalLM

    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(1)
    model = LlamaForCausalLM(LlamaConfig.from_dict(architecture(shape)))
    model = model.to(device, getattr(torch, shape.dtype))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    mixture = Path(job.mixture)
    plan = Plan.read(mixture)

    def train(on_step: Callable[[], None]) -> None:
        for batch in Batches(plan, mixture, 1, micro_batch=plan.batch):
            mask = batch["input_mask"]
            inputs = torch.zeros(mask.shape, dtype=torch.long)
            labels = torch.full(mask.shape, -100)
            inputs[mask] = batch["input_ids"].flatten()
            labels[mask] = batch["label_ids"].flatten()
            logits = model(input_ids=inputs.to(device), attention_mask=mask.to(device)).logits
            loss = torch.nn.functional.cross_entropy(
                logits.float().flatten(0, 1), labels.to(device).flatten()
            )
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            on_step()

    return measure(plan, train)


def run_in_process(kind: str, run: Path) -> dict[str, float]:
    """Measure one kind in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.training", "--kind", kind, *sys.argv[1:]]
    variables = {**os.environ, **environment(1)}
    done = subprocess.run(command, cwd=run, env=variables, stdout=subprocess.PIPE, check=True)
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    """Measure the three kinds and print them; with --kind, measure that one."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--shape", default="nano")
    parser.add_argument("--sequence", type=int, default=128)
    parser.add_argument("--steps", type=int, default=60)
    parser.add_argument("--packed", action="store_true")
    parser.add_argument("--kind", choices=KINDS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    shape = Shape.read(options.shape)
    if options.kind == "transformers":
        print(json.dumps(measure_transformers(Job.read(Path()), shape)))
    elif options.kind:
        print(json.dumps(measure_nanotron(Job.read(Path()), options.kind)))
    else:
        with TemporaryDirectory() as folder:
            run = prepare_run(Path(folder), options)
            print_table({kind: run_in_process(kind, run) for kind in KINDS}, shape, options)


def print_table(
    measured: dict[str, dict[str, float]], shape: Shape, options: argparse.Namespace
) -> None:
    """Print the tokens per second of each kind."""
    flops = flops_per_token(shape, options.sequence)
    ours = measured["ours"]
    our_rate = ours["tokens"] / ours["seconds"]
    device = "GPU" if torch.cuda.is_available() else "CPU"
    print(f"{options.shape}, rows of {options.sequence}, {options.steps} steps; {device}")
    print(f"{'':22}{'tokens/s':>12}{'/ ours':>9}{'MFU':>8}")
    for kind, values in measured.items():
        rate = values["tokens"] / values["seconds"]
        mfu = f"{rate * flops / values['peak']:8.1%}" if values["peak"] else "       –"
        print(f"{KINDS[kind]:22}{rate:12,.0f}{rate / our_rate:9.3f}{mfu}")
    share = ours["reading"] / ours["seconds"]
    print(f"making our batches takes {share:.2%} of the time of a step")


if __name__ == "__main__":
    main()
