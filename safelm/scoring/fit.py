"""Fit every row of `scorers` on a judge's labels, each by its own key, and measure all on those
held out (paper §1.3).

Also what the labels themselves are worth: the judge beside the labels of the source.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from safelm.builder.blocks import Block
from safelm.builder.manifest import Manifest
from safelm.builder.paths import cache, scratch
from safelm.builder.run import make_shards
from safelm.builder.shards import Shard
from safelm.builder.stage import link_files
from safelm.builder.store import Store
from safelm.scoring.cascade import THRESHOLDS, FitCascade, ReadHeldOut
from safelm.scoring.encoder import FitEncoder
from safelm.scoring.ensemble import ensemble_score
from safelm.scoring.labels import (
    HELD_OUT,
    Label,
    MeasureJudge,
    ReadLabels,
    TrustLabels,
    read_graded,
    read_labels,
    split_labels,
)
from safelm.scoring.ngrams import FEWEST, FitNgrams
from safelm.scoring.registry import Engines, Rows, grader
from safelm.stats.classification import DIGITS, baseline, measures
from safelm.stats.ranking import auroc, auroc_gain, calibration_error, reliability
from safelm.text.hazards import Grade
from specs.scorer import JUDGES, Cascade, Labels, Recipe, ScorerRow
from specs.spec import SCORE_LEVELS

CONFIDENCE = 0.95
Grades = Sequence[Grade | None]


def fit_all(
    rows: Rows, engines: Engines, labels: Path, *, judge: str, held_out: float, seed: int
) -> dict[str, Manifest]:
    """A manifest for every row that grades: what was fitted, and what it says of the held-out
    labels.

    Cascades come last. `judge` is the row that gave the labels.
    """
    made: dict[str, Manifest] = {}
    shared: dict[str, Any] = {"held_out": held_out, "seed": seed}
    for name in sorted(rows, key=lambda name: isinstance(rows[name], Cascade)):
        row = rows[name]
        if isinstance(row, Cascade):
            made[name] = make_shards(f"fit/{name}", _cascade(row, made, seed))
        elif name == judge:
            made[name] = make_shards(
                f"fit/{name}", [ReadLabels(folder=labels), TrustLabels(**shared)]
            )
        elif isinstance(row, Labels):
            continue  # every scorer is measured by the source's labels anyway
        elif row.kind in JUDGES:
            other = MeasureJudge(judge=grader(name, rows, engines), **shared)
            made[name] = make_shards(f"fit/{name}", [ReadLabels(folder=labels), other])
        else:
            made[name] = make_shards(
                f"fit/{name}", [ReadLabels(folder=labels), FITTERS[row.kind](row, shared)]
            )
    return {name: made[name] for name in rows if name in made}


def write_fit(
    folder: Path,
    *,
    made: Mapping[str, Manifest],
    labels: Path,
    judge: str,
    held_out: float,
    seed: int,
    rule: str,
    of: Mapping[str, int],
) -> list[str]:
    """Put every scorer into a folder of its own, and the measures of all beside them; what the
    stage prints.
    """
    known = read_labels(labels)
    measured = measure(*split_labels(known, held_out, seed), made, judge=judge, rule=rule, of=of)
    for name, manifest in made.items():
        link_files(manifest, folder / name)
    write_metrics(folder, describe(known), measured)
    return [f"{'fit':<18} {line}" for line in summary(measured)]


def _embedding(row: Any, shared: Mapping[str, Any]) -> Block:
    recipe = Recipe.read(row.recipe)
    return FitEncoder(
        encoder=Path(row.encoder) if row.revision is None else row.encoder,
        revision=row.revision,
        sequence=row.sequence_length,
        unsafe_weight=row.unsafe_weight,
        warmup=recipe.warmup,
        steps=tuple(step.model_dump() for step in recipe.steps),
        **shared,
    )


def _ngrams(row: Any, shared: Mapping[str, Any]) -> Block:
    return FitNgrams(
        words=tuple(row.words),
        characters=tuple(row.characters),
        buckets=row.buckets,
        unsafe_weight=row.unsafe_weight,
        regularisation=row.regularisation,
        **shared,
    )


def _cascade(row: Cascade, made: Mapping[str, Manifest], seed: int) -> list[Block]:
    reader = ReadHeldOut(cheap=held_out_of(made[row.cheap]), dear=held_out_of(made[row.expensive]))
    return [
        reader,
        FitCascade(
            names=(row.cheap, row.expensive),
            level=row.min_score,
            recall=row.recall,
            precision=row.precision,
            seed=seed,
        ),
    ]


FITTERS: dict[str, Callable[[ScorerRow, Mapping[str, Any]], Block]] = {
    "ngrams": _ngrams,
    "encoder": _embedding,
}


def file_of(manifest: Manifest, name: str) -> Shard:
    """A file of a manifest, where the store has it."""
    store = Store(cache(), scratch())
    return next(
        Shard(store.object(file.md5), file.rows, file.sha256)
        for path, file in manifest.files()
        if path == name
    )


def held_out_of(manifest: Manifest) -> Shard:
    """What the scorer of a manifest says of the held-out labels."""
    return file_of(manifest, HELD_OUT)


def describe(labels: Sequence[Label]) -> dict[str, Any]:
    """labels.json: how many of each score and hazard, and how the judge agrees with the source's
    own labels.
    """
    scores = Counter(label.score for label in labels)
    hazards = Counter(label.hazard for label in labels if label.hazard)
    known = [(label.label, label.score) for label in labels if label.label is not None]
    return {
        "documents": len(labels),
        "scores": [scores[score] for score in range(SCORE_LEVELS)],
        "hazards": dict(sorted(hazards.items())),
        "known": measures(known) if known else None,
    }


def measure(
    train: Sequence[Label],
    held: Sequence[Label],
    made: Mapping[str, Manifest],
    *,
    judge: str,
    rule: str,
    of: Mapping[str, int],
) -> dict[str, Any]:
    """held_out.json: every scorer but the judge itself against the judge's labels; all columns
    against the source's.
    """
    columns = {name: _in_order(manifest, held) for name, manifest in made.items()}
    measured = bool(held) and len(train) + len(held) >= FEWEST
    cascades = {
        name: json.loads(file_of(manifest, THRESHOLDS).bytes())
        for name, manifest in made.items()
        if _is_cascade(manifest)
    }
    chances = (
        baseline(*texts_and_classes(train), [label.text for label in held]) if measured else None
    )
    return {
        "train": len(train),
        "held_out": len(held),
        "note": note(train, held),
        "baseline": {"auroc": _area([label.score > 0 for label in held], chances)}
        if chances
        else None,
        "scorers": {
            name: against_judge(held, grades, chances)
            for name, grades in columns.items()
            if name != judge
        }
        if measured
        else {},
        "known": against_source(held, columns, rule, of) if measured else None,
        "cascades": cascades,
    }


def _is_cascade(manifest: Manifest) -> bool:
    return any(path == THRESHOLDS for path, _ in manifest.files())


def _in_order(manifest: Manifest, held: Sequence[Label]) -> list[Grade | None]:
    table = held_out_of(manifest).table()
    grades = dict(zip(table["id"].to_pylist(), read_graded(table), strict=True))
    return [grades[label.id] for label in held]


def texts_and_classes(labels: Sequence[Label]) -> tuple[list[str], list[bool]]:
    """The texts, and which of them have a score above 0."""
    return [label.text for label in labels], [label.score > 0 for label in labels]


def against_judge(
    held: Sequence[Label], grades: Grades, reference: Sequence[float] | None
) -> dict[str, Any]:
    """The measures of one scorer; of a classifier also how its probability of a score above 0
    ranks, and its curve.

    `reference` are the baseline's chances for the same pages: what a classifier ranks better than
    it is its gain."""
    places = [place for place, grade in enumerate(grades) if grade]
    rows = [(held[place].score, grade) for place in places if (grade := grades[place])]
    found = measures((score, grade.score) for score, grade in rows)
    found["ungraded"] = len(held) - len(rows)
    if not rows or any(grade.probabilities is None for _, grade in rows):
        return found
    actual = [score > 0 for score, _ in rows]
    chances = [1.0 - grade.probabilities[0] for _, grade in rows if grade.probabilities]
    curve = reliability(actual, chances)
    gain = (
        auroc_gain(actual, chances, [reference[place] for place in places], CONFIDENCE)
        if reference
        else None
    )
    return {
        **found,
        "auroc": _area(actual, chances),
        "gain": gain
        and dict(
            zip(("value", "low", "high"), (round(value, DIGITS) for value in gain), strict=True)
        ),
        "calibration_error": calibration_error(curve),
        "reliability": curve,
    }


def _area(actual: Sequence[bool], chances: Sequence[float]) -> dict[str, Any] | None:
    area = auroc(actual, chances, CONFIDENCE)
    return area.json() if area else None


def against_source(
    held: Sequence[Label], columns: Mapping[str, Grades], rule: str, of: Mapping[str, int]
) -> dict[str, Any] | None:
    """Each column against the labels of the source, on the documents that have one; None where none
    has.
    """
    scores: dict[str, list[int | None]] = {"judge": [label.score for label in held]}
    scores |= {
        name: [grade and grade.score for grade in grades] for name, grades in columns.items()
    }
    rows = [{name: column[place] for name, column in scores.items()} for place in range(len(held))]
    scores["ensemble"] = [ensemble_score(rule, row, of) for row in rows]
    pairs = {
        name: [
            (label.label, score)
            for label, score in zip(held, column, strict=True)
            if None not in (label.label, score)
        ]
        for name, column in scores.items()
    }
    return {name: measures(found) for name, found in pairs.items()} if any(pairs.values()) else None  # type: ignore[arg-type]


def note(train: Sequence[Label], held: Sequence[Label]) -> str | None:
    """A sentence where the labels were too few or too much alike to learn or to measure anything."""
    total, scores = len(train) + len(held), {label.score for label in train}
    if total < FEWEST:
        return f"Only {total} labels: nothing was fitted or measured."
    if len(scores) < 2:
        return f"All {total} labels are alike: nothing was fitted, every document gets the score {max(scores)}."
    return (
        None
        if held
        else f"No class of the {total} labels is large enough to hold one back: nothing was measured."
    )


def write_metrics(folder: Path, labels: dict[str, Any], held_out: dict[str, Any]) -> None:
    """labels.json, held_out.json, and confusion.csv: a row for each held-out document, as `dvc
    plots` wants it.
    """
    for name, values in (("labels", labels), ("held_out", held_out)):
        (folder / f"{name}.json").write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
    lines = ["scorer,actual,predicted\n"]
    for scorer, found in held_out["scorers"].items():
        for actual, row in enumerate(found["confusion"]):
            lines += [
                f"{scorer},{actual},{predicted}\n" * count for predicted, count in enumerate(row)
            ]
    (folder / "confusion.csv").write_text("".join(lines), encoding="utf-8")


def summary(held_out: dict[str, Any]) -> list[str]:
    """A line for the screen, and one for each scorer."""
    sizes = f"{held_out['train']:,} labels, {held_out['held_out']:,} held out"
    shown = (
        ("macro-F1", "macro_f1_present"),
        ("recall@1", "recall_at_1"),
        ("recall@3", "recall_at_3"),
    )
    lines = [f"{sizes}  {held_out['note']}" if held_out["note"] else sizes]
    for name, found in held_out["scorers"].items():
        values = (f"{title} {_three(found[key])}" for title, key in shown)
        lines.append("  ".join([f"{name:<12}", *values, *_decided(held_out["cascades"].get(name))]))
    return lines


def _decided(cascade: dict[str, Any] | None) -> list[str]:
    if not cascade:
        return []
    shares = ", ".join(f"{name} {_three(share)}" for name, share in cascade["decided"].items())
    return [f"decided by {shares}", f"recall of the dear scorer kept {_three(cascade['recall'])}"]


def _three(value: float | None) -> str:
    return "-" if value is None else format(value, ".3f")
