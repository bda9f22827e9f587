"""Evaluation of one model at one stage: judged completions of every suite, and utility."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from safelm.builder.artifact import Part, artifact
from safelm.builder.shards import Shard, write_table
from safelm.demo.prompts import DEMO
from safelm.evaluation.bounds import bound_path
from safelm.evaluation.completions import (
    measure_demo_utility,
    measure_harness_task,
    write_completions,
)
from safelm.evaluation.measurements import (
    MEASUREMENTS_FILE,
    Measurement,
    read_measurements,
    write_measurements,
)
from safelm.evaluation.metrics import (
    completions_of,
    judge_completions,
    suite_rates,
    token_costs,
)
from safelm.evaluation.probes.linear import measure_linear_probes
from safelm.evaluation.prompts import check_files
from safelm.evaluation.protocol import EvaluationProtocol
from safelm.evaluation.summary import evaluation_summary
from safelm.models import CHECKPOINTS, knows_tag
from specs.document import SAMPLES
from specs.suite import AnySuite, DemoSuite, HarnessSuite

SAMPLES_FILE = "samples.parquet"


class Cell(NamedTuple):
    """One suite with one decoder, of the model or of a checkpoint after so many pairs."""

    checkpoint: int | None
    decoder: str
    suite: str

    @property
    def part(self) -> str:
        """The path of its completions in the folder of an evaluation."""
        name = f"completions/{self.decoder}/{self.suite}"
        if self.checkpoint is None:
            return name
        return f"{CHECKPOINTS}/{self.checkpoint}/{name}"


def evaluate_model(
    folder: str,
    *,
    weights: Path,
    model: str,
    stage: str,
    protocol: EvaluationProtocol,
) -> None:
    """Build build/<folder>: samples.parquet, measurements.parquet and the parts behind them.

    Completions that an earlier run generated with the same model are reused.
    """
    prompt_sets = protocol.prompt_sets(stage)
    decoders = protocol.decoders_for(weights, protocol.decoders)
    cells = dict(_cells(weights, decoders, prompt_sets, protocol))
    parts = dict(_utility_parts(weights, protocol))
    settings = {name: protocol.settings(name, weights, stage) for name in decoders}
    parts |= {bound_path(name): own.bound for name, own in settings.items() if own.bound}
    for cell, cell_weights in cells.items():
        # Names of suites and decoders stay out of the key, so that renamed rows cost nothing.
        values = {"weights": cell_weights, "settings": settings[cell.decoder]}
        values |= prompt_sets[cell.suite].arguments()
        parts[cell.part] = Part(write_completions, values)
    artifact(
        folder,
        evaluate,
        reads=protocol.reads(prompt_sets),
        parts=parts,
        model=model,
        stage=stage,
        is_tagged=knows_tag(weights),
        cells=list(cells),
        protocol=protocol.only(protocol.suites, decoders),
    )


def _cells(
    weights: Path,
    decoders: Sequence[str],
    suites: Iterable[str],
    protocol: EvaluationProtocol,
) -> Iterator[tuple[Cell, Path]]:
    """Yield every cell with its weights: first of the model, then of its checkpoints."""
    suites = list(suites)
    for decoder in decoders:
        for suite in suites:
            yield Cell(None, decoder, suite), weights
    checkpoints = {int(path.name): path for path in (weights / CHECKPOINTS).glob("*")}
    used = [decoder for decoder in decoders if decoder in protocol.checkpoint_decoders]
    for pairs, checkpoint in sorted(checkpoints.items()):
        for decoder in used:
            for suite in suites:
                yield Cell(pairs, decoder, suite), checkpoint


def _utility_parts(weights: Path, protocol: EvaluationProtocol) -> Iterator[tuple[str, Part]]:
    sizes = {"weights": weights, "batch_size": protocol.batch_size, "seed": protocol.seed}
    for name, suite in _utility_suites(protocol.suites).items():
        values = {**sizes, "suite": suite, "max_prompts": protocol.max_prompts}
        if isinstance(suite, HarnessSuite):
            check_files(name, suite)
            values["files"] = [Path(file) for file in (suite.path, suite.shots) if file]
            yield f"utility/{name}", Part(measure_harness_task, values)
        elif isinstance(suite, DemoSuite):
            yield f"utility/{name}", Part(measure_demo_utility, {**values, "demo": DEMO})
            yield f"probe/{name}", Part(measure_linear_probes, {**sizes, "demo": DEMO})


def _utility_suites(suites: Mapping[str, AnySuite]) -> dict[str, AnySuite]:
    return {name: suite for name, suite in suites.items() if suite.kind == "utility"}


def evaluate(
    folder: Path,
    *,
    parts: Mapping[str, Shard],
    model: str,
    stage: str,
    is_tagged: bool,
    cells: Sequence[Cell],
    protocol: EvaluationProtocol,
) -> list[str]:
    """Judge the completions; write samples.parquet and measurements.parquet. Returns a summary."""
    judges = protocol.open_judges(f"{model}-{stage}")
    prompt_sets = protocol.prompt_sets(stage)
    rates: list[Measurement] = []
    samples = []
    facts = {}
    for cell in cells:
        suite = protocol.suites[cell.suite]
        completed = parts[cell.part].table().to_pylist()
        tried = prompt_sets[cell.suite].candidates[: len(completed)]
        completions = completions_of(completed, tried, cell.decoder)
        judged = judge_completions(completions, suite, judges)
        columns = {"checkpoint": cell.checkpoint, "decoder": cell.decoder}
        rates += suite_rates(judged, cell.suite, suite, protocol.judges, **columns)
        # The same for every decoder, because prompts are left out only for their length.
        about = {"suite": cell.suite, "suite_kind": suite.kind}
        facts[cell.suite] = prompt_sets[cell.suite].facts(len(completions), len(tried), **about)
        if bound := parts.get(bound_path(cell.decoder)):
            rates += token_costs(completed, **about, **columns)
            if (cell.checkpoint, cell.suite) == (None, cells[0].suite):
                found = read_measurements(bound)
                rates += [replace(row, decoder=cell.decoder, condition=None) for row in found]
        if cell.checkpoint is None:
            samples += [completion.sample() for completion in judged]
    rows = [Measurement("knows_tag", value=float(is_tagged))]
    rows += chain(*facts.values())
    rows += [*rates, *_utility(parts, protocol.suites)]
    rows = [replace(row, model=model, stage=stage) for row in rows]
    write_table(samples, SAMPLES, folder / SAMPLES_FILE)
    write_measurements(rows, folder / MEASUREMENTS_FILE)
    return evaluation_summary(rows)


def _utility(parts: Mapping[str, Shard], suites: Mapping[str, AnySuite]) -> Iterator[Measurement]:
    for name in _utility_suites(suites):
        for part in (f"utility/{name}", f"probe/{name}"):
            for row in read_measurements(parts[part]) if part in parts else ():
                yield replace(row, suite=name, suite_kind="utility")
