"""Relearning: how many pairs of further tuning undo a model's safety (the stage `relearn`)."""

from collections.abc import Iterator, Mapping
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

from safelm.builder.artifact import Part, artifact
from safelm.builder.paths import build
from safelm.builder.shards import Shard
from safelm.evaluation.attacks.relearning_curve import write_curve
from safelm.evaluation.judges.base import Judge
from safelm.evaluation.measurements import MEASUREMENTS_FILE, Measurement, write_measurements
from safelm.evaluation.metrics import completions_of, judge_completions, suite_rates
from safelm.evaluation.prompts import PromptSet
from safelm.evaluation.protocol import EvaluationProtocol
from safelm.evaluation.summary import relearning_summary
from specs.attacks import Relearn

# Every model, even a base model, is tuned on the chat format and measured like a tuned one.
CHAT = "instruct"
# The keys of a row that say how to tune.
TUNING = {"part", "checkpoints", "batch_size", "sequence_length", "learning_rate", "seed"}


def relearn_models(
    folder: str,
    *,
    rows: Mapping[str, Relearn],
    protocol: EvaluationProtocol,
) -> None:
    """Build build/<folder>: measurements.parquet, and the completions of every row and model.

    Models are tuned only for new rows, or if they are new.
    """
    suites = set[str]()
    for row in rows.values():
        suites.update(row.suites)
    # Sorted, because the order of a set differs from run to run, and the key with it.
    used = protocol.only(sorted(suites), ())
    prompt_sets = used.prompt_sets(CHAT).items()
    prompts = {suite: found.arguments() for suite, found in prompt_sets}
    parts = {}
    for name, row in rows.items():
        for model in row.models:
            weights = build(row.stage, model)
            decoders = protocol.decoders_for(weights, row.decoders)
            values = {
                # Not its lists of models and suites: a longer one tunes nothing again.
                "settings": row.model_dump(include=TUNING),
                "weights": weights,
                "source": build("clean", row.source),
                "prompts": {suite: prompts[suite] for suite in row.suites},
                # With the bound of the model before it is tuned.
                "decoders": {
                    decoder: protocol.settings(decoder, weights, CHAT) for decoder in decoders
                },
            }
            parts[f"{name}/{model}"] = Part(write_curve, values)
    reads = protocol.reads(suites)
    artifact(folder, relearn, reads=reads, parts=parts, rows=dict(rows), protocol=used)


def relearn(
    folder: Path,
    *,
    parts: Mapping[str, Shard],
    rows: Mapping[str, Relearn],
    protocol: EvaluationProtocol,
) -> list[str]:
    """Judge the completions and write measurements.parquet. Returns a summary."""
    judges = protocol.open_judges("relearn")
    prompt_sets = protocol.prompt_sets(CHAT)
    measured: list[Measurement] = []
    for name, row in rows.items():
        for model in row.models:
            columns = {"row": name, "model": model, "stage": row.stage}
            measured += _curve(parts[f"{name}/{model}"], prompt_sets, judges, protocol, columns)
    write_measurements(measured, folder / MEASUREMENTS_FILE)
    if not rows:
        return [f"{'relearn':<18} no rows in params.yaml"]
    return relearning_summary(measured)


def _curve(
    part: Shard,
    prompt_sets: Mapping[str, PromptSet],
    judges: Mapping[str, Judge],
    protocol: EvaluationProtocol,
    names: Mapping[str, Any],
) -> Iterator[Measurement]:
    """Yield the loss of every checkpoint, then the rates of its decoders and suites."""
    for pairs, group in groupby(part.table().to_pylist(), key=itemgetter("pairs")):
        rows = list(group)
        columns = {**names, "checkpoint": pairs}
        yield Measurement("held_out_loss", value=rows[0]["held_out_loss"], **columns)
        cells = groupby(rows, key=itemgetter("decoder", "suite"))
        for (decoder, name), cell in cells:
            suite = protocol.suites[name]
            completed = list(cell)
            tried = prompt_sets[name].candidates[: len(completed)]
            completions = completions_of(completed, tried, decoder)
            judged = judge_completions(completions, suite, judges)
            about = {**columns, "decoder": decoder}
            of_suite = {**about, "suite": name, "suite_kind": suite.kind}
            yield from prompt_sets[name].facts(len(completions), len(tried), **of_suite)
            yield from suite_rates(judged, name, suite, protocol.judges, **about)
