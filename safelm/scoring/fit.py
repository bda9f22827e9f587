"""Fit the scorers of params.yaml on a judge's labels, and measure them on the held-out labels.

Each row of `scorers` is cached by itself: editing one refits no other.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from safelm.builder.blocks import Block, Task
from safelm.builder.files import Json, write_json
from safelm.builder.manifest import Manifest
from safelm.builder.run import make_shards
from safelm.builder.stage import link_files
from safelm.documents.sample import ReadSample
from safelm.scoring.base import Grades
from safelm.scoring.cascade import THRESHOLDS
from safelm.scoring.cascade_fit import FitCascade, ReadHeldOut
from safelm.scoring.labels import (
    HELD_OUT,
    Label,
    MeasureJudge,
    ReadLabels,
    TrustLabels,
    read_held_out,
    read_labels,
    split_labels,
)
from safelm.scoring.measure import describe_labels, measure_scorers
from safelm.scoring.registry import Engines, Rows, fitter, grader, stored_file
from specs.scorer import CLASSIFIERS, JUDGES, Cascade, OperatingPoint


def fit_all(
    rows: Rows,
    engines: Engines,
    labels: Path,
    *,
    judge: str,
    held_out_share: float,
    seed: int,
    operating_point: OperatingPoint | None = None,
    harmless: Path | None = None,
) -> dict[str, Manifest]:
    """Fit every row of `scorers`, and grade the held-out labels with it.

    Returns the manifest of each row, which lists the fitted files and the grades. `judge` is the
    row that gave the labels; `harmless` has the documents of the operating point.
    """
    split: Json = {"held_out_share": held_out_share, "seed": seed}
    pages: list[Task] = []
    if operating_point and harmless:
        pages = _harmless_pages(operating_point.documents, harmless, seed)
    point = operating_point and (operating_point.min_score, operating_point.max_share)
    manifests: dict[str, Manifest] = {}
    # Cascades come last: they read the grades of their two scorers.
    for name in sorted(rows, key=lambda name: isinstance(rows[name], Cascade)):
        row = rows[name]
        if isinstance(row, Cascade):
            blocks = _cascade(row, manifests, seed)
        elif name == judge:
            blocks = [ReadLabels(folder=labels), TrustLabels(**split)]
        elif row.kind in JUDGES:
            measure = MeasureJudge(judge=grader(name, rows, engines), **split)
            blocks = [ReadLabels(folder=labels), measure]
        elif row.kind in CLASSIFIERS:
            fit = fitter(row, {**split, "point": point})
            blocks = [ReadLabels(folder=labels, sampled=pages), fit]
        # Not scorers of their own: all others are measured against given labels anyway.
        else:
            continue
        manifests[name] = make_shards(f"fit/{name}", blocks)
    return {name: manifests[name] for name in rows if name in manifests}


def _harmless_pages(documents: int, folder: Path, seed: int) -> list[Task]:
    """Draw the documents of the operating point."""
    sample = ReadSample(folder=folder, purpose="harmless", documents=documents, seed=seed)
    return sample.tasks()


def write_fit(
    folder: Path,
    *,
    manifests: Mapping[str, Manifest],
    labels: Path,
    judge: str,
    held_out_share: float,
    seed: int,
    rule: str,
    thresholds: Mapping[str, int],
) -> list[str]:
    """Write every scorer into a folder of its own, and the metrics of all beside them.

    `rule` and `thresholds` are those of the ensemble. Returns the lines that the stage prints.
    """
    known = read_labels(labels)
    split = split_labels(known, held_out_share, seed)
    grades = {name: _grades(manifest, split.held_out) for name, manifest in manifests.items()}
    metrics = measure_scorers(split, grades, judge=judge, rule=rule, thresholds=thresholds)
    metrics["cascades"] = _cascades(manifests)
    for name, manifest in manifests.items():
        link_files(manifest, folder / name)
    write_json(folder / "labels.json", describe_labels(known))
    write_json(folder / "held_out.json", metrics)
    (folder / "confusion.csv").write_text(confusion_csv(metrics), encoding="utf-8")
    return [f"{'fit':<18} {line}" for line in summary(metrics)]


def _cascade(row: Cascade, manifests: Mapping[str, Manifest], seed: int) -> list[Block]:
    read = ReadHeldOut(
        cheap=stored_file(manifests[row.cheap], HELD_OUT),
        expensive=stored_file(manifests[row.expensive], HELD_OUT),
    )
    return [read, FitCascade(row=row, seed=seed)]


def _grades(manifest: Manifest, held_out: Sequence[Label]) -> Grades:
    """Return the grades of a manifest in the order of the labels."""
    table = stored_file(manifest, HELD_OUT).table()
    grades = dict(zip(table["id"].to_pylist(), read_held_out(table), strict=True))
    return [grades[label.id] for label in held_out]


def _cascades(manifests: Mapping[str, Manifest]) -> Json:
    """Return the thresholds and measurements of every cascade, by its row."""
    return {
        name: json.loads(stored_file(manifest, THRESHOLDS).bytes())
        for name, manifest in manifests.items()
        if THRESHOLDS in dict(manifest.files())
    }


def confusion_csv(metrics: Json) -> str:
    """Return a CSV row for each held-out document and scorer."""
    # `dvc plots` counts the rows of its confusion template itself.
    lines = ["scorer,actual,predicted\n"]
    for scorer, measured in metrics["scorers"].items():
        for actual, counts in enumerate(measured["confusion"]):
            for predicted, count in enumerate(counts):
                lines += [f"{scorer},{actual},{predicted}\n"] * count
    return "".join(lines)


def summary(metrics: Json) -> list[str]:
    """Return the lines that the stage prints: one for the labels, and one for each scorer."""
    sizes = f"{metrics['train']:,} labels, {metrics['held_out']:,} held out"
    lines = [f"{sizes}  {metrics['note']}" if metrics["note"] else sizes]
    shown = {
        "macro-F1": "macro_f1_present",
        "recall@1": "recall_at_1",
        "recall@3": "recall_at_3",
    }
    for name, measured in metrics["scorers"].items():
        values = [f"{title} {_three_digits(measured[key])}" for title, key in shown.items()]
        cascade = _cascade_summary(metrics["cascades"].get(name))
        lines.append("  ".join([f"{name:<12}", *values, *cascade]))
    return lines


def _cascade_summary(cascade: Json | None) -> list[str]:
    if not cascade:
        return []
    decided = cascade["decided"].items()
    shares = ", ".join(f"{name} {_three_digits(share)}" for name, share in decided)
    recall = _three_digits(cascade["recall"])
    return [f"decided by {shares}", f"recall of the expensive scorer kept {recall}"]


def _three_digits(value: float | None) -> str:
    return "-" if value is None else format(value, ".3f")
