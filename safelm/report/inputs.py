"""Outputs of earlier stages, as they lie in build/. What was not built is absent."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from safelm.builder.digest import MANIFEST
from safelm.builder.manifest import Ledger, Manifest
from safelm.builder.shards import arrow_schema
from safelm.report.measured import STAGES
from specs.attacks import Attack, Relearn
from specs.comparisons import Comparisons
from specs.corpus import Corpus, TagRow
from specs.decoder import DecoderRow
from specs.document import MEASUREMENTS
from specs.mixture import Mixture, Model
from specs.source import SourceRow

DATA_STAGES = ("annotate", "score", "rephrase", "refuse", "educate")
# Folders of build/ that the report reads.
FOLDERS = (
    "ingest",
    "fit",
    "audit",
    *DATA_STAGES,
    "tag",
    "card",
    "mix",
    "pretrain",
    "overlap",
    "evaluate",
    "relearn",
    "attack",
    "compare",
)
MEASUREMENTS_FILE, SAMPLES_FILE = "measurements.parquet", "samples.parquet"
MAX_POINTS = 120  # of a training curve
REMEDY = "delete it and run `dvc repro`"

Json = dict[str, Any]
Cell = tuple[str, str, str, str]  # model, stage, decoder, suite
Points = list[tuple[float, float]]


class ReportError(RuntimeError):
    """There is nothing to report, or a file is not what its stage promises."""


@dataclass(frozen=True, kw_only=True)
class Declared:
    """Blocks of params.yaml that the report reads; outputs of other rows are not read."""

    title: str
    confidence: float
    sources: Mapping[str, SourceRow]
    tags: Mapping[str, TagRow]
    corpora: Mapping[str, Corpus]
    mixtures: Mapping[str, Mixture]
    models: Mapping[str, Model]
    external_models: Sequence[str]
    comparisons: Comparisons
    decoders: Mapping[str, DecoderRow]
    relearn: Mapping[str, Relearn]
    attacks: Mapping[str, Attack]
    rephrased_scores: Sequence[int]


@dataclass(frozen=True)
class Inputs:
    """Everything that the report is made from, by the names of rows in params.yaml."""

    measurements: pl.DataFrame  # of our models
    external: pl.DataFrame  # of `external_models`
    fit: Json
    audit: Json
    cards: Mapping[str, Json]  # by corpus
    training: Mapping[str, Json]  # by model
    curves: Mapping[str, Points]  # model: (tokens, loss)
    learning_rates: Mapping[str, Points]  # model: (tokens, rate)
    held_out: Mapping[tuple[str, str], Points]  # model and corpus: (tokens, loss)
    plans: Mapping[str, Json]  # by mixture
    ledgers: Mapping[str, Ledger]  # by stage
    overlap: Mapping[tuple[str, str], str]  # suite and prompt: exact, near or none
    outcomes: dict[Cell, dict[str, str]] = field(default_factory=dict)  # by prompt
    acts: dict[str, str] = field(default_factory=dict)  # prompt: the act that it asks for


def read_inputs(folder: Path, rows: Declared) -> Inputs:
    """Read build/.

    Raises:
        ReportError: if no model was evaluated, or a file is broken.
    """
    names = [f"{model}-{stage}" for model, stage in product(rows.models, STAGES)]
    evaluated = [folder / "evaluate" / name for name in names]
    measurements = read_measurements(evaluated)
    if measurements.is_empty():
        raise ReportError(
            f"{folder / 'evaluate'}: expected {MEASUREMENTS_FILE} of at least one of the models "
            f"{', '.join(rows.models)} (found none); run `dvc repro` to evaluate them"
        )
    further = read_measurements([folder / "relearn", folder / "attack"])
    further = further.filter(pl.col("model").is_in(list(rows.models)))
    runs = {model: folder / "pretrain" / model for model in rows.models}
    logs = {model: run / "loss.csv" for model, run in runs.items() if (run / "loss.csv").is_file()}
    cards = {name: folder / "card" / name / "card.json" for name in rows.corpora}
    inputs = Inputs(
        measurements=pl.concat([measurements, further]),
        external=read_measurements([folder / "compare" / name for name in rows.external_models]),
        fit=_json_file(folder / "fit" / "held_out.json"),
        audit=_json_file(folder / "audit" / "audit.json"),
        cards={name: _by_hazard(card) for name, card in _json_files(cards).items()},
        training=_json_files({model: run / "train.json" for model, run in runs.items()}),
        curves={model: read_curve(log) for model, log in logs.items()},
        learning_rates=_learning_rates(logs),
        held_out=_held_out(runs),
        plans=_json_files({name: folder / "mix" / name / "plan.json" for name in rows.mixtures}),
        ledgers=_ledgers(folder, rows),
        overlap=_overlap(folder / "overlap" / "prompts.parquet"),
    )
    for path in evaluated:
        _read_outcomes(path, inputs)
    return inputs


def read_measurements(folders: Iterable[Path]) -> pl.DataFrame:
    """Read the measurements of the folders that have some, one under another.

    Raises:
        ReportError: if a file is no Parquet file.
    """
    files = [folder / MEASUREMENTS_FILE for folder in folders]
    tables = [_table(file, MEASUREMENTS) for file in files if file.is_file()]
    frame = pl.from_arrow(pa.concat_tables([arrow_schema(MEASUREMENTS).empty_table(), *tables]))
    assert isinstance(frame, pl.DataFrame)
    return frame


def _table(path: Path, columns: Iterable[str]) -> pa.Table:
    try:
        return pq.ParquetFile(path).read(columns=list(columns), use_threads=False)
    except pa.ArrowException as error:
        raise ReportError(f"{path}: expected a Parquet file ({error}); {REMEDY}") from error


def _read_outcomes(folder: Path, inputs: Inputs) -> None:
    """Read the outcome of every prompt, and the act that each prompt asks for."""
    if not (folder / SAMPLES_FILE).is_file():
        return
    model, _, stage = folder.name.rpartition("-")
    samples = _table(folder / SAMPLES_FILE, ["suite", "decoder", "id", "form", "verdict"])
    for row in samples.to_pylist():
        cell = (model, stage, row["decoder"], row["suite"])
        inputs.outcomes.setdefault(cell, {})[row["id"]] = row["verdict"]
        # Prompts of the embedded world for one act differ in the form within their id.
        inputs.acts[row["id"]] = row["id"].replace(f"-{row['form']}-", "-", 1)


def _overlap(path: Path) -> dict[tuple[str, str], str]:
    """Read which prompts stand in the training text."""
    if not path.is_file():
        return {}
    rows = _table(path, ["suite", "id", "overlap"]).to_pylist()
    return {(row["suite"], row["id"]): row["overlap"] for row in rows}


def _json_files(files: Mapping[str, Path]) -> dict[str, Json]:
    return {name: _json_file(path) for name, path in files.items() if path.is_file()}


def _json_file(path: Path) -> Json:
    """Read a JSON object; an empty one where there is no file."""
    if not path.is_file():
        return {}
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise ReportError(f"{path}: expected JSON ({error}); {REMEDY}") from error
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise ReportError(f"{path}: expected a JSON object (got {kind}); {REMEDY}")
    return values


def _by_hazard(card: Json) -> Json:
    """Turn the hazards of a card, a list in card.json, into a mapping."""
    return {**card, "hazards": {row["hazard"]: row for row in card.get("hazards") or []}}


def _ledgers(folder: Path, rows: Declared) -> dict[str, Ledger]:
    stages = [f"ingest/{source}" for source in rows.sources]
    stages += [*DATA_STAGES, *(f"tag/{row}" for row in rows.tags)]
    built = [stage for stage in stages if (folder / stage / MANIFEST).is_file()]
    return {stage: Manifest.read(folder / stage).ledger.check(stage) for stage in built}


def _held_out(runs: Mapping[str, Path]) -> dict[tuple[str, str], Points]:
    """Read the loss on rows that no training reads, by model and corpus."""
    losses: dict[tuple[str, str], Points] = {}
    for model, run in runs.items():
        if (run / "held_out.csv").is_file():
            log = pl.read_csv(run / "held_out.csv", columns=["tokens", "corpus", "loss"])
            for tokens, corpus, loss in log.iter_rows():
                losses.setdefault((model, corpus), []).append((float(tokens), float(loss)))
    return losses


def _learning_rates(logs: Mapping[str, Path]) -> dict[str, Points]:
    curves = {}
    for model, log in logs.items():
        # The log of another trainer may lack it.
        if "learning_rate" in pl.read_csv(log, n_rows=0).columns:
            curves[model] = read_curve(log, "learning_rate")
    return curves


def read_curve(path: Path, column: str = "loss", max_points: int = MAX_POINTS) -> Points:
    """Read (tokens, loss) of a training log, or (step, loss) where it has no tokens.

    Long logs are averaged in pieces.

    Raises:
        ReportError: if the log lacks a column.
    """
    log = pl.read_csv(path)
    across = next((name for name in ("tokens", "step") if name in log.columns), None)
    if across is None or column not in log.columns:
        raise ReportError(
            f"{path}: expected the columns tokens (or step) and {column} "
            f"(got {', '.join(log.columns)})"
        )
    # Rounded up, so that there are at most `max_points` pieces.
    size = -(-len(log) // max_points) or 1
    pieces = log.select(across, column).cast(pl.Float64).iter_slices(size)
    return [(piece[across][-1], fmean(piece[column])) for piece in pieces if len(piece)]
