"""The numbers of the report as files: summary.json, and metrics/ and plots/ for DVC."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict
from itertools import chain, product
from typing import Any

import polars as pl

from safelm.builder.files import Json
from safelm.report.claim import Claim, verdicts
from safelm.report.data import HEADLINES, ReportData
from safelm.report.figures.differences import compared
from safelm.report.figures.scorers import matrices, rates_of
from safelm.report.measured import DETAILS, KEY, Measured, Number
from safelm.stats.classification import macro_f1
from safelm.stats.rates import DIGITS, rounded

HAZARD = ("per_million", "count", "words")
RATE = ("value", "low", "high", "count", "of")
# Names that stand in the tree before the values of a column.
BRANCHES = {"judge": ["judges"], "form": ["forms"]}
# Names of rates beside the suites of a decoder: the suite and the metric.
SHORTCUTS = {
    "asr": ("harmful", "asr"),
    "asr_strict": ("harmful", "asr_strict"),
    "refused": ("harmful", "refused"),
    "neither": ("harmful", "neither"),
    "benign_compliance": ("benign", "complied"),
    "over_refusal": ("benign", "over_refusal"),
    "dual_use_over_refusal": ("dual_use", "over_refusal"),
}


def summary(data: ReportData, claims: Sequence[Claim]) -> Json:
    """Collect every number of the report."""
    models, stages = (_tree(measured, [None]) for measured in (data.single, data.measured))
    for tree in (models, stages):
        _add_shortcuts(tree, data.declared.decoders)
    external = _tree(data.external, [None])
    groups = {}
    for group in data.built:
        row = {"models": group.models, "mixture": group.mixture, "step": group.step}
        groups[group.name] = {**row, "stages": stages[group.name]}
    differences = []
    for one in compared(data):
        # Counts are no floats.
        shown = {key: rounded(value) for key, value in one.items() if isinstance(value, float)}
        differences.append({**one, **shown})
    return {
        "title": data.declared.title,
        "confidence": data.confidence,
        "models": models,
        **({"external_models": external} if external else {}),
        "groups": groups,
        "roles": {part: group.name for part, group in data.roles.parts.items()},
        "verdicts": verdicts(claims),
        "claims": [claim.json() for claim in claims],
        "differences": differences,
        "relearned": _tree(data.measured, data.declared.relearn),
        "attacks": _tree(data.measured, data.declared.attacks),
        "scores": _scores(data),
        "cards": data.cards,
        "ledger": {stage: asdict(row) for stage, row in data.ledgers.items()},
    }


def _tree(measured: Measured, rows: Iterable[str | None]) -> Json:
    """Nest the numbers of some rows of `relearn` or `attacks`, or those without a row.

    Checkpoints of benign finetuning are left out.
    """
    root: Json = {}
    for number in measured.select(**dict.fromkeys(DETAILS, ...)):
        if number.row in rows and (number.row or number.checkpoint is None):
            *path, last = _path(number)
            node = root
            for name in path:
                node = node.setdefault(name, {})
            node[last] = _json(number)
    return root


def _path(number: Number) -> list[str]:
    """Return the names under which a number stands in the tree, in the order of its columns."""
    names = []
    for column in KEY:
        value = getattr(number, column)
        if value is not None:
            names += BRANCHES.get(column, [])
            names.append(f"{value:g}" if isinstance(value, float) else str(value))
    if number.metric == "tag_auroc" and number.words is None:
        names.append("page")
    return names


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


def _add_shortcuts(tree: Json, decoders: Iterable[str]) -> None:
    """Repeat the rates that people ask for by name beside the suites of each decoder."""
    for stage, name in [*product(chain(*(stages.values() for stages in tree.values())), decoders)]:
        if name in stage:
            suites = stage[name]
            found = {key: suites.get(suite, {}).get(m) for key, (suite, m) in SHORTCUTS.items()}
            # Suites come last: none is overwritten by a shortcut of its name.
            stage[name] = found | suites


def _scores(data: ReportData) -> Json:
    """Collect recall, false alarms and macro-F1 of every confusion matrix, and the paper's."""
    fit, ours = data.fit, {}
    for name, matrix in matrices(fit):
        rates = rates_of(matrix, data.confidence).items()
        row = {metric: rate and rate.json() for metric, rate in rates}
        ours[name] = {**row, "macro_f1": macro_f1(matrix), "confusion": matrix}
    paper = data.paper.classifier.table.items()
    return {
        "note": fit.get("note"),
        "ours": ours,
        "paper": {name: row.model_dump() for name, row in paper},
        "cascades": fit.get("cascades") or {},
        "audits": data.audits,
    }


def tables(data: ReportData) -> Iterator[tuple[str, pl.DataFrame]]:
    """Iterate over the tables of plots/.

    The loss of each model and the hazards of each corpus are also files of their own: DVC draws
    every file of a folder as one plot, and cannot separate two models in one file.
    """
    yield "asr", _rates(data, "asr", "harmful")
    yield "over_refusal", _rates(data, "over_refusal", "benign")
    yield "confusion", pl.DataFrame(_confusion(data), ["actual", "predicted"], orient="row")
    curves, held_out = data.curves, data.held_out
    loss = pl.col("loss").map_elements("{:.5f}".format, pl.String)
    shared = {
        "hazards": pl.DataFrame(_hazards(data), ["corpus", "hazard", *HAZARD], orient="row"),
        "loss": curves.select("model", pl.col("tokens").round().cast(pl.Int64), loss),
    }
    for name, frame in shared.items():
        yield name, frame
        for part in frame.partition_by(frame.columns[0], maintain_order=True):
            yield f"{name}/{part.item(0, 0)}", part
    for part in held_out.partition_by("model", "corpus", maintain_order=True):
        model, corpus = part.row(0)[:2]
        yield f"held_out/{model}, {corpus}", part.select("tokens", "loss")
    rates = curves.drop_nulls("learning_rate").partition_by("model", maintain_order=True)
    for part in rates:
        rate = pl.col("learning_rate").round_sig_figs(DIGITS)
        yield f"learning_rate/{part['model'][0]}", part.select("tokens", rate)


def _rates(data: ReportData, metric: str, suite: str) -> pl.DataFrame:
    """List a rate of each model, stage and decoder; `name` joins these, for DVC's bar charts."""
    rows = []
    for number in data.single.select(metric=metric, suite=suite):
        if number.rate.value is not None:
            keys = {"model": number.group, "stage": number.stage, "decoder": number.decoder}
            rows.append({"name": ", ".join(keys.values()), **keys, **number.rate.json()})
    return pl.DataFrame(rows, ["name", "model", "stage", "decoder", *RATE])


def _hazards(data: ReportData) -> Iterator[Sequence[Any]]:
    for corpus, card in data.cards.items():
        for hazard, row in card["hazards"].items():
            if row.get("per_million") is not None:
                yield corpus, hazard, round(row["per_million"], DIGITS), row["count"], card["words"]


def _confusion(data: ReportData) -> Iterator[Sequence[Any]]:
    """Repeat a row for each held-out page, as DVC's confusion template counts them."""
    _, matrix = next(matrices(data.fit), ("", []))
    for actual, counts in enumerate(matrix):
        for predicted, count in enumerate(counts):
            yield from [(actual, predicted)] * count


def files(data: ReportData, claims: Sequence[Claim]) -> Iterator[tuple[str, str]]:
    """Iterate over the files of build/report but the page: (name, text).

    Files of metrics/ are short rows of percentages, by model and stage.
    """
    yield "summary.json", _dumped(summary(data, claims))
    for name, table in tables(data):
        yield f"plots/{name}.csv", table.write_csv()
    for model, stage, rates in data.headlines(data.single):
        named = zip(HEADLINES, rates, strict=True)
        row = {name: round(100 * (rate.value or 0.0), 2) for name, rate in named if rate}
        if row:
            yield f"metrics/{model}-{stage}.json", _dumped(row)


def _dumped(values: Mapping[str, Any]) -> str:
    # NaN is not JSON: strict readers would refuse the whole file.
    return json.dumps(values, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
