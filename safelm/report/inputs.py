"""What the earlier stages left in build/, read as it is. What was not built is absent, and the
report says so.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from safelm.builder.digest import MANIFEST
from safelm.builder.manifest import Ledger, Manifest

STAGES = ("pretrain", "instruct", "finetune")
DATA_STAGES = ("annotate", "score", "rephrase", "refuse", "educate")
FOLDERS = (
    "ingest",
    "fit",
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
)  # of build/, all that is read
CURVE = 120  # points of a training curve, at most
RATE = "learning_rate"
ASKED = ["suite", "decoder", "id", "form", "verdict"]  # what is read of samples.parquet
Json = dict[str, Any]
Cell = tuple[str, str, str, str]  # model, stage, decoder, suite


class ReportError(RuntimeError):
    """There is nothing to report, or a file is not what its stage promises."""


@dataclass(frozen=True)
class Inputs:
    """Everything the report is made of, by name."""

    metrics: Mapping[str, Mapping[str, Json]]  # model: stage: metrics.json
    doses: Mapping[str, Mapping[int, Json]] = field(
        default_factory=dict
    )  # model: pairs read: metrics.json
    relearned: Mapping[str, Json] = field(
        default_factory=dict
    )  # row of `relearn`: what its models became
    attacks: Mapping[str, Json] = field(
        default_factory=dict
    )  # row of `attacks`: its dials, and what its models did
    others: Mapping[str, Json] = field(default_factory=dict)  # row of `others`: metrics.json
    fit: Json | None = None
    audit: Json | None = None
    cards: Mapping[str, Json] = field(default_factory=dict)  # corpus: card.json
    training: Mapping[str, Json] = field(default_factory=dict)  # model: train.json
    curves: Mapping[str, list[tuple[float, float]]] = field(
        default_factory=dict
    )  # model: (tokens, loss)
    held_out: Mapping[str, list[tuple[float, float]]] = field(
        default_factory=dict
    )  # "model, corpus": (tokens, loss)
    rates: Mapping[str, list[tuple[float, float]]] = field(
        default_factory=dict
    )  # model: (tokens, learning rate)
    plans: Mapping[str, Json] = field(default_factory=dict)  # mixture: plan.json
    ledgers: Mapping[str, Ledger] = field(default_factory=dict)  # stage: where its rows went
    outcomes: Mapping[Cell, Mapping[str, str]] = field(
        default_factory=dict
    )  # a cell of the matrix: prompt: outcome
    acts: Mapping[str, str] = field(default_factory=dict)  # prompt: the act that it asks for
    overlap: Mapping[tuple[str, str], str] = field(
        default_factory=dict
    )  # (suite, prompt): exact, near or none


def read_inputs(
    folder: Path,
    *,
    models: Iterable[str],
    others: Iterable[str],
    mixtures: Iterable[str],
    corpora: Iterable[str],
    sources: Iterable[str],
    tags: Iterable[str],
) -> Inputs:
    """Read build/. Only rows that params.yaml names are read: a folder of a model that is gone
    stays out.
    """
    models = list(models)
    metrics = {
        model: found
        for model in models
        if (
            found := _existing(
                {s: folder / "evaluate" / f"{model}-{s}" / "metrics.json" for s in STAGES}
            )
        )
    }
    if not metrics:
        raise ReportError(
            f"{folder / 'evaluate'}: expected metrics.json of at least one of the models {', '.join(models)} "
            "(found none); run `dvc repro` to evaluate them"
        )
    cards = {corpus: folder / "card" / corpus / "card.json" for corpus in corpora}
    curves = {model: folder / "pretrain" / model / "loss.csv" for model in models}
    outcomes, acts = _outcomes(folder, metrics)
    return Inputs(
        metrics=metrics,
        outcomes=outcomes,
        acts=acts,
        overlap=_overlap(folder / "overlap" / "prompts.parquet"),
        doses={
            model: kept for model in metrics if (kept := _doses(metrics[model].get("finetune", {})))
        },
        relearned=_existing({"relearn": folder / "relearn" / "metrics.json"})
        .get("relearn", {})
        .get("rows", {}),
        attacks=_existing({"attack": folder / "attack" / "metrics.json"})
        .get("attack", {})
        .get("attacks", {}),
        others=_existing({name: folder / "compare" / name / "metrics.json" for name in others}),
        fit=_existing({"fit": folder / "fit" / "held_out.json"}).get("fit"),
        audit=_existing({"audit": folder / "audit" / "audit.json"}).get("audit"),
        cards={corpus: _by_hazard(found) for corpus, found in _existing(cards).items()},
        training=_existing({model: folder / "pretrain" / model / "train.json" for model in models}),
        curves={
            model: curve
            for model, path in curves.items()
            if path.is_file() and (curve := read_curve(path))
        },
        held_out=dict(
            _held_out({model: path.with_name("held_out.csv") for model, path in curves.items()})
        ),
        rates={
            model: read_curve(path, RATE)
            for model, path in curves.items()
            if path.is_file() and _has(path, RATE)
        },
        plans=_existing({mixture: folder / "mix" / mixture / "plan.json" for mixture in mixtures}),
        ledgers=_ledgers(
            folder,
            [
                *(f"ingest/{source}" for source in sources),
                *DATA_STAGES,
                *(f"tag/{row}" for row in tags),
            ],
        ),
    )


def _outcomes(
    folder: Path, metrics: Mapping[str, Mapping[str, Json]]
) -> tuple[dict[Cell, dict[str, str]], dict[str, str]]:
    """(what became of every prompt of every cell, the act that each prompt asks for)."""
    outcomes: dict[Cell, dict[str, str]] = {}
    acts: dict[str, str] = {}
    for model, stage in ((model, stage) for model, stages in metrics.items() for stage in stages):
        path = folder / "evaluate" / f"{model}-{stage}" / "samples.parquet"
        if not path.is_file():
            continue
        for row in pq.ParquetFile(path).read(columns=ASKED, use_threads=False).to_pylist():
            cell = (model, stage, row["decoder"], row["suite"])
            outcomes.setdefault(cell, {})[row["id"]] = row["verdict"]
            acts[row["id"]] = row["id"].replace(
                f"-{row['form']}-", "-", 1
            )  # of the embedded world: without the form
    return outcomes, acts


def _overlap(path: Path) -> dict[tuple[str, str], str]:
    """Which prompts stand in the training text."""
    if not path.is_file():
        return {}
    rows = (
        pq.ParquetFile(path).read(columns=["suite", "id", "overlap"], use_threads=False).to_pylist()
    )
    return {(row["suite"], row["id"]): row["overlap"] for row in rows}


def _existing(files: Mapping[str, Path]) -> dict[str, Json]:
    return {name: _load(path) for name, path in files.items() if path.is_file()}


def _doses(metrics: Json) -> dict[int, Json]:
    """What was measured of the models that finetuning kept on its way, by the pairs it had read."""
    found = {int(dose): rates for dose, rates in (metrics.get("doses") or {}).items()}
    return dict(sorted(found.items()))


def _load(path: Path) -> Json:
    try:
        values = json.loads(path.read_bytes())
    except ValueError as error:
        raise ReportError(
            f"{path}: expected JSON ({error}); delete it and run `dvc repro`"
        ) from error
    if not isinstance(values, dict):
        raise ReportError(
            f"{path}: expected a JSON object (got {type(values).__name__}); delete it and run `dvc repro`"
        )
    return values


def _by_hazard(card: Json) -> Json:
    """A card whose hazards, a list in card.json, are found by name."""
    listed = card.get("hazards") or []
    return {
        **card,
        "hazards": {row["hazard"]: row for row in listed} if isinstance(listed, list) else listed,
    }


def _ledgers(folder: Path, stages: Iterable[str]) -> dict[str, Ledger]:
    built = [stage for stage in stages if (folder / stage / MANIFEST).is_file()]
    return {stage: Manifest.read(folder / stage).ledger.check(stage) for stage in built}


def _held_out(paths: Mapping[str, Path]) -> Iterator[tuple[str, list[tuple[float, float]]]]:
    """The loss on rows that no training reads, for each model and corpus."""
    for model, path in paths.items():
        if path.is_file():
            with path.open(encoding="utf-8", newline="") as file:
                rows = list(csv.DictReader(file))
            for corpus in dict.fromkeys(row["corpus"] for row in rows):
                own = [
                    (float(row["tokens"]), float(row["loss"]))
                    for row in rows
                    if row["corpus"] == corpus
                ]
                yield f"{model}, {corpus}", own


def _has(path: Path, column: str) -> bool:
    """Whether a log has a column; one of a foreign trainer may lack the learning rate."""
    with path.open(encoding="utf-8") as file:
        return column in file.readline().strip().split(",")


def read_curve(path: Path, column: str = "loss", points: int = CURVE) -> list[tuple[float, float]]:
    """(tokens, loss) of a training log, or (step, loss) where it has no tokens; long logs are
    averaged in pieces.
    """
    with path.open(encoding="utf-8", newline="") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        across = next((name for name in ("tokens", "step") if name in columns), None)
        if across is None or column not in columns:
            raise ReportError(
                f"{path}: expected the columns tokens (or step) and {column} (got {', '.join(columns)})"
            )
        rows = [(float(row[across]), float(row[column])) for row in reader]
    size = -(-len(rows) // points) if rows else 1
    pieces = [rows[start : start + size] for start in range(0, len(rows), size)]
    return [(piece[-1][0], sum(value for _, value in piece) / len(piece)) for piece in pieces]
