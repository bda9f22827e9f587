"""The numbers of the report as files: summary.json, and metrics/ and plots/ for DVC."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from pathlib import Path
from typing import Any

import polars as pl

from safelm.report.cards import hazards, matrices
from safelm.report.claim import Claim, verdicts
from safelm.report.data import ReportData
from safelm.report.figures.differences import summary as differences
from safelm.report.figures.scorers import macro_f1, rates_of
from safelm.report.measured import DETAILS, STAGES, Measured, Number
from safelm.stats.rates import DIGITS, rounded

RATE = ["value", "low", "high", "count", "of"]
HAZARD = ["corpus", "hazard", "per_million", "count", "words"]
LOSS = ["model", "tokens", "loss"]

Json = dict[str, Any]
Rows = Iterable[Sequence[object]]


def summary(data: ReportData, claims: Sequence[Claim]) -> Json:
    """Collect every number of the report."""
    inputs, roles = data.inputs, data.roles
    models, groups = (_tree(measured, [None]) for measured in (data.single, data.measured))
    decoders = list(data.declared.decoders)
    return {
        "title": data.declared.title,
        "confidence": data.confidence,
        "models": {name: _with_headlines(stages, decoders) for name, stages in models.items()},
        "groups": {
            group.name: {
                "models": list(group.models),
                "mixture": group.mixture,
                "step": group.step,
                "stages": _with_headlines(groups[group.name], decoders),
            }
            for group in data.built
        },
        "roles": {part: group.name for part, group in roles.parts.items()},
        "verdicts": verdicts(claims),
        "claims": [claim.json() for claim in claims],
        "differences": differences(data),
        "relearned": _tree(data.measured, data.declared.relearn),
        "attacks": _tree(data.measured, data.declared.attacks),
        "scores": _scores(data),
        "cards": {name: dict(card) for name, card in inputs.cards.items()},
        "ledger": {stage: asdict(row) for stage, row in inputs.ledgers.items()},
    }


def _tree(measured: Measured, rows: Iterable[str | None]) -> Json:
    """Nest the numbers of some rows of `relearn` or `attacks`, or those without a row.

    Checkpoints of benign finetuning are left out.
    """
    root: Json = {}
    everything = dict.fromkeys((*DETAILS, "group"), ...)
    for number in measured.select(**everything):
        if number.row in rows and (number.row or number.checkpoint is None):
            *path, last = _path(number)
            node = root
            for name in path:
                node = node.setdefault(name, {})
            node[last] = _json(number)
    return root


def _path(number: Number) -> list[str]:
    """Return the names under which a number stands in the tree, the metric and its bin last."""
    names = (number.row, number.group, number.stage, number.checkpoint, number.condition)
    path = [str(name) for name in (*names, number.decoder, number.suite) if name is not None]
    path += ["judges", number.judge] if number.judge else []
    path += ["forms", number.form] if number.form else []
    bins = (number.words, number.bin_edge, number.layer)
    whole_page = ["page"] if number.metric == "tag_auroc" and number.words is None else []
    return [
        *path,
        number.metric,
        *whole_page,
        *(f"{value:g}" for value in bins if value is not None),
    ]


def _json(number: Number) -> Any:
    """Return a rate, an area with its numbers of pages, or a plain number."""
    rate = number.rate
    if "auroc" in number.metric:
        if rate.value is None:
            return None
        area = {name: rounded(getattr(rate, name)) for name in ("value", "low", "high")}
        return {**area, "unsafe": rate.count, "safe": rate.of - rate.count}
    # Numbers such as a perplexity have no interval.
    is_plain = rate.value is not None and rate.low is None
    return rounded(rate.value) if is_plain else rate.json()


def _with_headlines(stages: Mapping[str, Json], decoders: Iterable[str]) -> Json:
    """Repeat the rates that people ask for by name beside the suites of each decoder."""
    return {
        stage: {**tree, **{name: _headlines(tree[name]) for name in decoders if name in tree}}
        for stage, tree in stages.items()
    }


def _headlines(suites: Mapping[str, Json]) -> Json:
    harmful, benign = suites.get("harmful", {}), suites.get("benign", {})
    headlines = {name: harmful.get(name) for name in ("asr", "asr_strict", "refused", "neither")}
    headlines["benign_compliance"] = benign.get("complied")
    headlines["over_refusal"] = benign.get("over_refusal")
    headlines["dual_use_over_refusal"] = suites.get("dual_use", {}).get("over_refusal")
    return {**headlines, **suites}


def _scores(data: ReportData) -> Json:
    """Collect recall, false alarms and macro-F1 of every confusion matrix, and the paper's."""
    fit, ours = data.inputs.fit, {}
    for name, matrix in matrices(fit):
        rates = rates_of(matrix, data.confidence).items()
        ours[name] = {
            **{metric: rate and rate.json() for metric, rate in rates},
            "macro_f1": rounded(macro_f1(matrix)),
            "confusion": [list(row) for row in matrix],
        }
    paper = data.paper.classifier.table.items()
    return {
        "note": fit.get("note"),
        "ours": ours,
        "paper": {name: row.model_dump() for name, row in paper},
        "cascades": fit.get("cascades") or {},
        "audit": data.inputs.audit or None,
    }


def metrics(data: ReportData) -> dict[str, dict[str, float]]:
    """Return a short row of percentages for each model and stage, such as `standard-pretrain`."""
    rows = {}
    for model in data.single.values("group"):
        for stage in STAGES:
            rates = data.headlines(data.single, model, stage).items()
            row = {name: round(100 * (rate.value or 0.0), 2) for name, rate in rates if rate}
            if row:
                rows[f"{model}-{stage}"] = row
    return rows


def tables(data: ReportData) -> dict[str, str]:
    """Return the tables of plots/ as CSV.

    The loss of each model and the hazards of each corpus are also files of their own: DVC draws
    every file of a folder as one plot, and cannot separate two models in one file.
    """
    inputs, hazard_rows = data.inputs, list(_hazard_rows(data))
    losses = {model: list(_loss_rows(data, model)) for model in inputs.curves}
    files = {
        "asr.csv": _rate_csv(data, "asr", "harmful"),
        "over_refusal.csv": _rate_csv(data, "over_refusal", "benign"),
        "hazards.csv": _csv(HAZARD, hazard_rows),
        "confusion.csv": _csv(["actual", "predicted"], _confusion_rows(data)),
        "loss.csv": _csv(LOSS, chain(*losses.values())),
    }
    for corpus in dict.fromkeys(row[0] for row in hazard_rows):
        rows = [row for row in hazard_rows if row[0] == corpus]
        files[f"hazards/{corpus}.csv"] = _csv(HAZARD, rows)
    for (model, corpus), points in inputs.held_out.items():
        files[f"held_out/{model}, {corpus}.csv"] = _csv(["tokens", "loss"], points)
    for model, points in inputs.learning_rates.items():
        files[f"learning_rate/{model}.csv"] = _csv(["tokens", "learning_rate"], points)
    for model, loss in losses.items():
        files[f"loss/{model}.csv"] = _csv(LOSS, loss)
    return files


def _rate_csv(data: ReportData, metric: str, suite: str) -> str:
    """Write a rate of each model, stage and decoder; `name` joins these, for DVC's bar charts."""
    rows = []
    for number in data.single.select(metric=metric, suite=suite):
        if number.rate.value is not None:
            values = number.rate.json()
            keys = (number.group, number.stage, number.decoder)
            rows.append([", ".join(keys), *keys, *(values[column] for column in RATE)])
    return _csv(["name", "model", "stage", "decoder", *RATE], rows)


def _hazard_rows(data: ReportData) -> Iterator[list[Any]]:
    cards = data.inputs.cards
    for corpus, card in cards.items():
        for hazard in hazards(cards):
            row = card["hazards"].get(hazard)
            if row and row.get("per_million") is not None:
                frequency = round(row["per_million"], DIGITS)
                yield [corpus, hazard, frequency, row["count"], card["words"]]


def _loss_rows(data: ReportData, model: str) -> Rows:
    return ([model, round(at), f"{loss:.5f}"] for at, loss in data.inputs.curves[model])


def _confusion_rows(data: ReportData) -> Rows:
    """Repeat a row for each held-out page, as DVC's confusion template counts them."""
    _, matrix = next(matrices(data.inputs.fit), ("", []))
    for actual, counts in enumerate(matrix):
        for predicted, count in enumerate(counts):
            yield from [[actual, predicted]] * count


def _csv(head: Sequence[str], rows: Rows) -> str:
    return pl.DataFrame(list(rows), schema=list(head), orient="row").write_csv()


def write(folder: Path, data: ReportData, claims: Sequence[Claim], page: str) -> None:
    """Write every file of build/report."""
    files = {"index.html": page, "summary.json": _dumped(summary(data, claims))}
    files |= {f"plots/{name}": text for name, text in tables(data).items()}
    files |= {f"metrics/{name}.json": _dumped(row) for name, row in metrics(data).items()}
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


def _dumped(values: Mapping[str, Any]) -> str:
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
