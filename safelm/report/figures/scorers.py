"""Figures of scorers: confusion matrices (Figure 5), audit, calibration and cascades."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from safelm.report.charts.bars import Square, Stack
from safelm.report.charts.numbers import percent, points, readable, short_percent
from safelm.report.charts.svg import draw
from safelm.report.charts.xy import Curve
from safelm.report.data import ReportData
from safelm.report.draw import curve_panel, stack_panel
from safelm.report.layout import (
    STYLES,
    Cell,
    Figure,
    Panel,
    Row,
    chart_label,
    figure,
    layout_of,
    table,
)
from safelm.stats.classification import BASELINE, Matrix, false_alarm_rate, macro_f1, recall_rate
from safelm.stats.rates import Rate
from specs.spec import SCORE_LEVELS

Json = Mapping[str, Any]


def scorers(data: ReportData) -> list[Figure]:
    """Draw everything that was measured of scorers."""
    fit, audit = data.inputs.fit, data.inputs.audit
    figures = [_classifier(data)] if fit else []
    figures += [_audit(audit)] if audit else []
    rows = (fit.get("scorers") or {}).items()
    calibrated = {name: row for name, row in rows if row.get("reliability")}
    if calibrated:
        figures.append(_reliability(calibrated, fit.get("baseline")))
    cascades = _cascades(fit.get("cascades") or {})
    return [*figures, figure("cascades", tables=[table("cascades", cascades)])]


def matrices(fit: Mapping[str, Any]) -> Iterator[tuple[str, Matrix]]:
    """Iterate over (name, confusion matrix): scorers against the judge, then against the source."""
    for block, label in (("scorers", ""), ("known", " (known)")):
        for name, metrics in (fit.get(block) or {}).items():
            if metrics and metrics.get("confusion"):
                yield f"{name}{label}", metrics["confusion"]


def rates_of(matrix: Matrix, confidence: float) -> dict[str, Rate | None]:
    """Compute recall and false alarms of a confusion matrix."""
    return {
        "recall_1": recall_rate(matrix, 1, confidence),
        "recall_3": recall_rate(matrix, 3, confidence),
        "false_alarms": false_alarm_rate(matrix, confidence),
    }


def _classifier(data: ReportData) -> Figure:
    """Draw Figure 5: the confusion matrices of our scorers beside the paper's."""
    paper, note = data.paper.classifier, data.inputs.fit.get("note")
    confusions = {_scorer_name(name): matrix for name, matrix in matrices(data.inputs.fit)}
    confusions |= {f"the paper's {name}": matrix for name, matrix in paper.matrices.items()}
    counts = []
    for name, matrix in confusions.items():
        rows = [{"level": str(k), **dict(enumerate(row))} for k, row in enumerate(matrix)]
        counts.append(table("confusion", rows, name=name))
    return figure(
        "figure-5",
        [_grid(name, matrix) for name, matrix in confusions.items() if any(map(any, matrix))],
        [table("scorers", _scores(data, confusions)), *counts],
        note=f"{note} " if note else "",
    )


def _scorer_name(name: str) -> str:
    """Describe a scorer and the labels it is measured against: `ngrams (known)` in words."""
    column, known, _ = name.partition(" (known")
    return f"here: {readable(column)}, against {'labels of the source' if known else 'the judge'}"


def _scores(data: ReportData, confusions: Mapping[str, Matrix]) -> Iterator[Row]:
    """Iterate over the measures of each matrix, and of the paper's scorers without one."""
    paper = data.paper.classifier
    for name, matrix in confusions.items():
        rates = rates_of(matrix, data.confidence)
        yield {"scorer": name, **rates, "macro_f1": macro_f1(matrix)}
    for name, row in paper.table.items():
        if name not in paper.matrices:
            yield {"scorer": f"the paper's table: {name}", **row.model_dump()}


def _grid(name: str, matrix: Matrix) -> Panel:
    rows = [(f"true {level}", _squares(counts, level)) for level, counts in enumerate(matrix)]
    columns = [str(level) for level in range(SCORE_LEVELS)]
    label = chart_label("grid", f"confusion matrix of {name}")
    return Panel(name, draw("heat_map", rows, columns, 52.0, "predicted score", label))


def _squares(counts: Sequence[int], level: int) -> list[Square]:
    of = sum(counts)
    squares = []
    for predicted, count in enumerate(counts):
        hint = f"true {level}, predicted {predicted}: {count:,} of {of:,}"
        squares.append(Square(f"{count:,}", count / of if of else None, hint))
    return squares


def _audit(audit: Json) -> Figure:
    """Draw each predicted score, and the judge's scores of a sample of it."""
    legend = [(f"r{level}", f"judged {level}") for level in range(SCORE_LEVELS)]
    stacks = []
    for row in audit["buckets"]:
        # A score that no page has was not sampled.
        if row["audited"]:
            judged = zip(legend, row["judged"], strict=True)
            parts = [(*part, count) for part, count in judged]
            stacks.append(Stack(f"predicted {row['predicted']}", parts))
    levels = [{**row, "level": f"{row['level']} or above"} for row in audit["levels"]]
    return figure(
        "audit",
        [stack_panel("Scores by the judge", stacks)] if stacks else [],
        [table("audit-buckets", audit["buckets"]), table("audit-levels", levels)],
        legend=legend,
        audited=f"{audit['audited']:,}",
        documents=f"{audit['documents']:,}",
        confidence=short_percent(audit["confidence"]),
    )


def _reliability(scorers: Mapping[str, Json], baseline: Json | None) -> Figure:
    """Draw the reliability curve of each classifier, and list how well it ranks."""
    curves = []
    rows: list[Row] = []
    for index, (name, row) in enumerate(scorers.items()):
        curve = [(point["predicted"], point["observed"]) for point in row["reliability"]]
        curves.append(Curve(readable(name), STYLES[index % len(STYLES)], curve))
        gain = row["gain"] and Cell(*points(**row["gain"]))
        rows.append({**row, "scorer": readable(name), "gain": gain})
    if baseline:
        rows.append({"scorer": f"{BASELINE}, for comparison", "auroc": baseline["auroc"]})
    panel = curve_panel(layout_of("reliability"), curves, "Reliability", are_shares=True)
    return figure("reliability", [panel], [table("reliability", rows)])


def _cascades(cascades: Mapping[str, Json]) -> Iterator[Row]:
    """Iterate over cascades: which scorer decided, and the loss against the expensive one alone."""
    for name, row in cascades.items():
        decided = [f"{readable(by)} {percent(share)}" for by, share in row["decided"].items()]
        shown: dict[str, Any] = {"cascade": readable(name), "decided": "; ".join(decided)}
        if row["recall"] is not None:
            low, high = row["recall_interval"]
            shown["recall"] = {"value": row["recall"], "low": low, "high": high}
        yield {**row, **shown}
