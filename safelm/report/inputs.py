"""Outputs of earlier stages, as they lie in build/. What was not built is absent."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import polars as pl

from safelm.builder.digest import MANIFEST
from safelm.builder.files import Json
from safelm.builder.manifest import Ledger, Manifest
from safelm.builder.paths import build
from safelm.builder.shards import arrow_schema
from safelm.report.measured import STAGES
from specs.attacks import AttackRow, Relearn
from specs.comparisons import Comparisons
from specs.corpus import Corpus, Educate, Rewrite, TagRow
from specs.decoder import DecoderRow
from specs.document import MEASUREMENTS
from specs.mixture import Mixture, Model
from specs.source import SourceRow

MEASUREMENTS_FILE, SAMPLES_FILE = "measurements.parquet", "samples.parquet"
MAX_POINTS = 120  # of a training curve
REMEDY = "delete it and run `dvc repro`"

# Stages, and the field of Declared that names their outputs: those with a ledger of documents, and
# the others.
DOCUMENTS = {
    "ingest": "sources",
    "clean": "sources",
    "score": "scored",
    "rephrase": "rephrase",
    "refuse": "refuse",
    "educate": "educate",
    "tag": "tags",
}
OTHERS = {"audit": "scored", "card": "corpora", "mix": "models", "pretrain": "models"}
OUTCOMES = {name: "string" for name in ("decoder", "suite", "id", "form", "verdict")}
OVERLAP = {name: "string" for name in ("suite", "id", "overlap")}
CURVES = {"tokens": pl.Float64, "loss": pl.Float64, "learning_rate": pl.Float64}
HELD_OUT = {"corpus": pl.String, "tokens": pl.Float64, "loss": pl.Float64}


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
    attacks: Mapping[str, AttackRow]
    scored: Sequence[str]  # sources
    rephrase: Mapping[str, Rewrite]
    refuse: Mapping[str, Rewrite]
    educate: Mapping[str, Educate]
    made_by: Mapping[str, Mapping[str, str]]  # role: the rows that play it, with their kinds
    rule: str  # of the ensemble of scorers
    labelled: Sequence[str]  # the sources of labelled documents

    @property
    def has_made_up_labels(self) -> bool:
        """Whether labels come from the made-up world: its word lists, or its pages."""
        return self.has_demo(self.labelled) or "lexicon" in self.made_by["labels"].values()

    def has_demo(self, sources: Iterable[str]) -> bool:
        """Return whether some sources have pages of the made-up world."""
        return any(self.sources[name].reader == "demo" for name in sources)


@dataclass(frozen=True, eq=False)
class Inputs:
    """Everything that the report is made from, by the names of rows in params.yaml."""

    measurements: pl.DataFrame  # of our models
    external_measurements: pl.DataFrame  # of `external_models`
    fit: Json
    audits: Mapping[str, Json]  # by source
    cards: Mapping[str, Json]  # by corpus
    training: Mapping[str, Json]  # by model
    curves: pl.DataFrame  # model, tokens, loss and learning_rate
    held_out: pl.DataFrame  # model, corpus, tokens and loss
    plans: Mapping[str, Json]  # by model
    ledgers: Mapping[str, Ledger]  # by stage
    manifests: Mapping[str, Manifest]  # of these stages
    overlap: pl.DataFrame  # suite, id, and overlap: exact, near or none
    outcomes: pl.DataFrame  # SAMPLE columns with model, stage, and the act of each prompt


def input_folders(rows: Declared) -> list[Path]:
    """List the folders of build/ that the report reads, without those of removed rows."""
    whole = ("annotate", "fit", "overlap", "relearn", "attack", "compare")
    evaluated = [f"evaluate/{model}-{stage}" for model, stage in product(rows.models, STAGES)]
    return [build(path) for path in (*whole, *_outputs(rows, DOCUMENTS | OTHERS), *evaluated)]


def _outputs(rows: Declared, stages: Mapping[str, str]) -> Iterator[str]:
    for stage, table in stages.items():
        yield from (f"{stage}/{name}" for name in getattr(rows, table))


def read_inputs(folder: Path, rows: Declared) -> Inputs:
    """Read build/.

    Raises:
        ReportError: if no model was evaluated, or a file is broken.
    """
    cells = product(rows.models, STAGES)
    evaluated = {cell: folder / "evaluate" / "-".join(cell) for cell in cells}
    measurements = _read(MEASUREMENTS, evaluated.values(), MEASUREMENTS_FILE)
    if measurements.is_empty():
        raise ReportError(
            f"{folder / 'evaluate'}: expected {MEASUREMENTS_FILE} of at least one of the models "
            f"{', '.join(rows.models)} (found none); run `dvc repro` to evaluate them"
        )
    further = _read(MEASUREMENTS, [folder / "relearn", folder / "attack"], MEASUREMENTS_FILE)
    further = further.filter(pl.col("model").is_in(list(rows.models)))
    external = [folder / "compare" / name for name in rows.external_models]
    stages = ["annotate", *_outputs(rows, DOCUMENTS)]
    built = [stage for stage in stages if (folder / stage / MANIFEST).is_file()]
    manifests = {stage: Manifest.read(folder / stage) for stage in built}
    cards = _json_files(folder / "card", rows.corpora, "card.json")
    runs = folder / "pretrain"
    return Inputs(
        measurements=pl.concat([measurements, further]),
        external_measurements=_read(MEASUREMENTS, external, MEASUREMENTS_FILE),
        fit=_json_file(folder / "fit" / "held_out.json"),
        audits=_json_files(folder / "audit", rows.scored, "audit.json"),
        cards={name: _by_hazard(card) for name, card in cards.items()},
        training=_json_files(runs, rows.models, "train.json"),
        curves=_by_model(runs, rows.models, "loss.csv", read_curve, CURVES),
        held_out=_by_model(runs, rows.models, "held_out.csv", pl.read_csv, HELD_OUT),
        plans=_json_files(folder / "mix", rows.models, "plan.json"),
        ledgers={stage: made.ledger.check(stage) for stage, made in manifests.items()},
        manifests=manifests,
        overlap=_read(OVERLAP, [folder / "overlap"], "prompts.parquet"),
        outcomes=pl.concat([_outcomes(*cell, path) for cell, path in evaluated.items()]),
    )


def _read(columns: Mapping[str, str], folders: Iterable[Path], file: str) -> pl.DataFrame:
    """Read columns of a file of the folders that have it, one file under another."""
    # Without any file, the table still has its columns.
    frames = [pl.DataFrame(arrow_schema(columns).empty_table())]
    for path in (folder / file for folder in folders):
        if path.is_file():
            try:
                frames.append(pl.read_parquet(path, columns=[*columns]))
            except pl.exceptions.PolarsError as error:
                found = f"expected a Parquet file ({error})"
                raise ReportError(f"{path}: {found}; {REMEDY}") from error
    return pl.concat(frames)


def _outcomes(model: str, stage: str, folder: Path) -> pl.DataFrame:
    """Read the outcome of every prompt of a model, and the act that each prompt asks for."""
    rows = _read(OUTCOMES, [folder], SAMPLES_FILE)
    ids = rows.select("id", "form").iter_rows()
    # Prompts of the embedded world for one act differ in the form within their id.
    acts = [prompt.replace(f"-{form}-", "-", 1) for prompt, form in ids]
    act = pl.Series(acts, dtype=pl.String)
    return rows.with_columns(act=act, model=pl.lit(model), stage=pl.lit(stage))


def _json_files(folder: Path, names: Iterable[str], file: str) -> dict[str, Json]:
    paths = {name: folder / name / file for name in names}
    return {name: _json_file(path) for name, path in paths.items() if path.is_file()}


def _json_file(path: Path) -> Json:
    """Read a JSON object; an empty one where there is no file."""
    try:
        return dict(json.loads(path.read_bytes())) if path.is_file() else {}
    except (TypeError, ValueError) as error:
        raise ReportError(f"{path}: expected a JSON object ({error}); {REMEDY}") from error


def _by_hazard(card: Json) -> Json:
    """Turn the hazards of a card, a list in card.json, into a mapping."""
    return {**card, "hazards": {row["hazard"]: row for row in card.get("hazards") or []}}


def _by_model(
    folder: Path,
    models: Iterable[str],
    file: str,
    read: Callable[[Path], pl.DataFrame],
    columns: Mapping[str, Any],
) -> pl.DataFrame:
    """Read a log of each model that has it, one under another."""
    schema = pl.Schema({"model": pl.String, **columns})
    frames = [pl.DataFrame(schema=schema)]
    for model in models:
        path = folder / model / file
        if path.is_file():
            frames.append(read(path).with_columns(model=pl.lit(model)))
    # Relaxed: whole numbers in one log may be fractions in another.
    return pl.concat(frames, how="diagonal_relaxed").select(*schema).cast(schema)


def read_curve(path: Path, max_points: int = MAX_POINTS) -> pl.DataFrame:
    """Read a training log: tokens, or steps where it has none, loss and learning rate.

    Long logs are averaged in pieces.

    Raises:
        ReportError: if the log lacks a column.
    """
    log = pl.read_csv(path)
    across = next((name for name in ("tokens", "step") if name in log.columns), None)
    if across is None or "loss" not in log.columns:
        raise ReportError(
            f"{path}: expected the columns tokens (or step) and loss (got {', '.join(log.columns)})"
        )
    # Rounded up, so that there are at most `max_points` pieces.
    size = -(-len(log) // max_points) or 1
    pieces = log.group_by(pl.int_range(pl.len()) // size, maintain_order=True)
    # The log of another trainer may lack the learning rate.
    means = pl.col(name for name in ("loss", "learning_rate") if name in log.columns)
    return pieces.agg(means.cast(pl.Float64).mean(), tokens=pl.col(across).last().cast(pl.Float64))
