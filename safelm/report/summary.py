"""summary.json, the small metrics files of `dvc metrics show` and the tidy tables of `dvc plots
show`.
"""

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safelm.report.claim import Claim, verdicts
from safelm.report.evidence import false_alarms, hazards, macro_f1, matrices, recall
from safelm.report.figure import Book
from safelm.report.figures.differences import summary as differences
from safelm.report.inputs import STAGES
from safelm.report.rates import Curves, Tree
from safelm.stats.rates import DIGITS, Rate

PARTS = ("standard", "filtered", "safe")


def summary(book: Book, found: Sequence[Claim]) -> dict[str, Any]:
    """Everything the report says, as numbers."""
    measured = book.measured
    return {
        "title": book.title,
        "confidence": book.confidence,
        "models": {name: _stages(stages) for name, stages in measured.models.items()},
        "groups": {
            group.name: {
                "models": list(group.models),
                "mixture": group.mixture,
                "rung": group.rung,
                "stages": _stages(measured.groups[group.name]),
            }
            for group in measured.built()
        },
        "roles": {part: row.name for part in PARTS if (row := getattr(measured.roles, part))},
        "verdicts": verdicts(found),
        "claims": [claim.json() for claim in found],
        "differences": differences(book),
        "relearned": {row: _relearned(curves) for row, curves in measured.relearned.items()},
        "attacks": dict(book.inputs.attacks),
        "scores": _scores(book),
        "cards": {name: dict(card) for name, card in book.inputs.cards.items()},
        "ledger": {stage: asdict(row) for stage, row in book.inputs.ledgers.items()},
    }


def _stages(stages: Mapping[str, Tree]) -> dict[str, Any]:
    return {
        stage: {
            **{decoder: _answers(tree) for decoder, tree in found["decoders"].items()},
            "utility": _json(found["utility"]),
        }
        for stage, found in stages.items()
    }


def _relearned(curves: Curves) -> dict[str, Any]:
    """A row of `relearn`: of every group, by the pairs read."""
    trees = curves.trees.items()
    return {
        "stage": curves.stage,
        "part": curves.part,
        "groups": {
            group: {str(dose): _json(tree) for dose, tree in doses.items()}
            for group, doses in trees
        },
    }


def _answers(tree: Tree) -> dict[str, Any]:
    """One decoder: the rates people ask for by name, the forms, and every label of the harmless
    suites.
    """
    harmful, benign, dual_use = (
        _json(tree.get(kind) or {}) for kind in ("harmful", "benign", "dual_use")
    )
    return {
        **{name: harmful.get(name) for name in ("asr", "asr_strict", "refused", "neither")},
        "benign_compliance": benign.get("complied"),
        "over_refusal": benign.get("over_refusal"),
        "dual_use_over_refusal": dual_use.get("over_refusal"),
        "forms": harmful.get("forms", {}),
        "benign": benign,
        "dual_use": dual_use,
    }


def _json(node: Any) -> Any:
    if isinstance(node, Rate):
        return node.json()
    if isinstance(node, Mapping):
        return {name: _json(value) for name, value in node.items()}
    return round(node, DIGITS) if isinstance(node, float) else node


def _scores(book: Book) -> dict[str, Any]:
    """The scorer: recall with intervals and macro-F1 of every confusion matrix; what the paper has
    for each.
    """
    ours = {}
    for name, matrix in matrices(book.inputs.fit):
        rates = {
            "recall_1": recall(matrix, 1, book.confidence),
            "recall_3": recall(matrix, 3, book.confidence),
            "false_alarms": false_alarms(matrix, book.confidence),
        }
        ours[name] = {
            **_json(rates),
            "macro_f1": _json(macro_f1(matrix)),
            "confusion": [list(row) for row in matrix],
        }
    paper = {name: row.model_dump() for name, row in book.paper.classifier.table.items()}
    fit = book.inputs.fit or {}
    return {
        "note": fit.get("note"),
        "ours": ours,
        "paper": paper,
        "cascades": fit.get("cascades") or {},
        "audit": book.inputs.audit,
    }


def metrics(book: Book) -> dict[str, dict[str, float]]:
    """A short row for each model and stage: `standard-pretrain` and its few numbers, in percent."""
    rows = {}
    for name, stages in book.measured.models.items():
        for stage, tree in stages.items():
            wanted = {
                "asr": (book.parts.plain, "harmful", "asr"),
                "asr_safebeam": (book.parts.safebeam, "harmful", "asr"),
                "benign_compliance": (book.parts.plain, "benign", "complied"),
                "over_refusal": (book.parts.plain, "benign", "over_refusal"),
            }
            found = {
                key: tree["decoders"].get(path[0], {}).get(path[1], {}).get(path[2])
                for key, path in wanted.items()
            }
            found["utility"] = tree["utility"].get("accuracy")
            rows[f"{name}-{stage}"] = {
                key: round(100 * rate.value, 2)
                for key, rate in found.items()
                if isinstance(rate, Rate) and rate.value is not None
            }
    return rows


Rows = Iterable[Sequence[object]]


def tables(book: Book) -> dict[str, str]:
    """The tidy tables of plots/, as CSV. A model's loss and a corpus' hazards are also files of
    their own.

    DVC draws every file of a folder as one plot, and cannot tell two models in one file apart.
    """
    hazard_rows, curves = list(_hazard_rows(book)), book.inputs.curves
    found = {
        "asr.csv": _csv(["name", *KEYS, *RATE], _rate_rows(book, "harmful", "asr")),
        "over_refusal.csv": _csv(
            ["name", *KEYS, *RATE], _rate_rows(book, "benign", "over_refusal")
        ),
        "hazards.csv": _csv(HAZARD, hazard_rows),
        "confusion.csv": _csv(["actual", "predicted"], _confusion_rows(book)),
        "loss.csv": _csv(LOSS, (row for name in curves for row in _loss_rows(book, name))),
    }
    for corpus in dict.fromkeys(row[0] for row in hazard_rows):
        found[f"hazards/{corpus}.csv"] = _csv(
            HAZARD, (row for row in hazard_rows if row[0] == corpus)
        )
    rates, held_out = book.inputs.rates, book.inputs.held_out
    found |= {f"held_out/{name}.csv": _csv(["tokens", "loss"], held_out[name]) for name in held_out}
    found |= {
        f"learning_rate/{name}.csv": _csv(["tokens", "learning_rate"], rates[name])
        for name in rates
    }
    return {**found, **{f"loss/{name}.csv": _csv(LOSS, _loss_rows(book, name)) for name in curves}}


KEYS = ["model", "stage", "decoder"]
HAZARD = ["corpus", "hazard", "per_million", "count", "words"]
LOSS = ["model", "tokens", "loss"]
RATE = ["value", "low", "high", "count", "of"]


def _rate_rows(book: Book, suite: str, name: str) -> Rows:
    """One row for each model, stage and decoder; `name` joins the three, for charts with a single
    axis of names.
    """
    for model, stages in book.measured.models.items():
        for stage in [stage for stage in STAGES if stage in stages]:
            for decoder, tree in stages[stage]["decoders"].items():
                rate = (tree.get(suite) or {}).get(name)
                if isinstance(rate, Rate) and rate.value is not None:
                    values = rate.json()
                    joined = f"{model}, {stage}, {decoder}"
                    yield [joined, model, stage, decoder, *(values[key] for key in RATE)]


def _hazard_rows(book: Book) -> Rows:
    cards = book.inputs.cards
    for corpus, card in cards.items():
        for hazard in hazards(cards):
            row = card["hazards"].get(hazard)
            if row and row.get("per_million") is not None:
                yield [
                    corpus,
                    hazard,
                    round(row["per_million"], DIGITS),
                    row["count"],
                    card["words"],
                ]


def _loss_rows(book: Book, model: str) -> Rows:
    return ([model, round(at), f"{loss:.5f}"] for at, loss in book.inputs.curves[model])


def _confusion_rows(book: Book) -> Rows:
    """One row for each held-out page: what DVC's confusion template counts."""
    for _, matrix in list(matrices(book.inputs.fit))[:1]:
        for actual, counts in enumerate(matrix):
            for predicted, count in enumerate(counts):
                yield from ([actual, predicted] for _ in range(count))


def _csv(head: Sequence[str], rows: Rows) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    return text.getvalue()


def write(folder: Path, book: Book, found: Sequence[Claim], page: str) -> None:
    """Every file of build/report."""
    files = {"index.html": page, "summary.json": _dumped(summary(book, found))}
    files |= {f"plots/{name}": text for name, text in tables(book).items()}
    files |= {f"metrics/{name}.json": _dumped(row) for name, row in metrics(book).items()}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _dumped(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
