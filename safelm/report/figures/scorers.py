"""Figures of scorers: confusion matrices (Figure 5), audit, calibration and cascades."""

from collections.abc import Iterator, Mapping
from itertools import cycle
from typing import Any

from safelm.report.charts.numbers import percent, points, readable, short_percent
from safelm.report.charts.svg import Curve, draw
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

SOURCE = " (known)"  # a scorer against labels of the source, not the judge's


def matrices(fit: Mapping[str, Any]) -> Iterator[tuple[str, Matrix]]:
    """Iterate over (name, confusion matrix): scorers against the judge, then against the source."""
    for block, suffix in (("scorers", ""), ("known", SOURCE)):
        for name, metrics in (fit.get(block) or {}).items():
            if metrics and metrics.get("confusion"):
                yield name + suffix, metrics["confusion"]


def rates_of(matrix: Matrix, confidence: float) -> dict[str, Rate | None]:
    """Compute recall and false alarms of a confusion matrix."""
    recall = {f"recall_{level}": recall_rate(matrix, level, confidence) for level in (1, 3)}
    return {**recall, "false_alarms": false_alarm_rate(matrix, confidence)}


def classifier(data: ReportData) -> Figure:
    """Draw Figure 5: the confusion matrices of our scorers beside the paper's."""
    paper, fit = data.paper.classifier, data.fit
    confusions = {}
    for name, matrix in matrices(fit):
        labels = "labels of the source" if name.endswith(SOURCE) else "the judge"
        scorer = readable(name.removesuffix(SOURCE))
        confusions[f"here: {scorer}, against {labels}"] = matrix
    confusions |= {f"the paper's {name}": matrix for name, matrix in paper.matrices.items()}
    panels, rows, counts = [], [], []
    for name, matrix in confusions.items():
        rates = rates_of(matrix, data.confidence)
        rows.append({"scorer": name, **rates, "macro_f1": macro_f1(matrix)})
        levels = [{"level": str(k), **dict(enumerate(row))} for k, row in enumerate(matrix)]
        counts.append(table("confusion", levels, name=name))
        panels += [_grid(name, matrix)] if any(map(any, matrix)) else []
    for name, row in paper.table.items():
        if name not in paper.matrices:
            rows.append({"scorer": f"the paper's table: {name}", **row.model_dump()})
    note = f"{fit['note']} " if fit.get("note") else ""
    return figure("figure-5", panels, [table("scorers", rows), *counts], note=note)


def _grid(name: str, matrix: Matrix) -> Panel:
    rows = []
    for level, counts in enumerate(matrix):
        of, squares = sum(counts), []
        for predicted, count in enumerate(counts):
            hint = f"true {level}, predicted {predicted}: {count:,} of {of:,}"
            squares.append((f"{count:,}", count / of if of else None, hint))
        rows.append((f"true {level}", squares))
    columns = [str(level) for level in range(SCORE_LEVELS)]
    label = chart_label("grid", f"confusion matrix of {name}")
    return Panel(name, draw("heat_map", rows, columns, 52.0, "predicted score", label))


def audit(data: ReportData) -> Figure:
    """Draw each predicted score of each source, and the judge's scores of a sample of it."""
    legend = [(f"r{level}", f"judged {level}") for level in range(SCORE_LEVELS)]
    audits = data.audits.values()
    panels, buckets, levels = [], [], []
    for name, audit in data.audits.items():
        source = readable(name)
        # A score that no page has was not sampled.
        sampled = [row for row in audit["buckets"] if row["audited"]]
        judged = {f"predicted {row['predicted']}": row["judged"] for row in sampled}
        if judged:
            panels.append(stack_panel(f"Scores of {source} by the judge", judged, legend))
        buckets += [{"source": source, **row} for row in audit["buckets"]]
        for row in audit["levels"]:
            levels.append({"source": source, **row, "level": f"{row['level']} or above"})
    return figure(
        "audit",
        panels,
        [table("audit-buckets", buckets), table("audit-levels", levels)],
        legend=legend,
        audited=f"{sum(audit['audited'] for audit in audits):,}",
        documents=f"{sum(audit['documents'] for audit in audits):,}",
        confidence=short_percent(max((audit["confidence"] for audit in audits), default=0)),
    )


def reliability(data: ReportData) -> Figure:
    """Draw the reliability curve of each classifier, and list how well it ranks."""
    fit = data.fit
    scorers = (fit.get("scorers") or {}).items()
    fitted = [(name, row) for name, row in scorers if row.get("reliability")]
    curves = []
    rows: list[Row] = []
    for (name, row), style in zip(fitted, cycle(STYLES), strict=False):
        curve = [(point["predicted"], point["observed"]) for point in row["reliability"]]
        curves.append(Curve(readable(name), style, curve))
        gain = row["gain"] and Cell(*points(**row["gain"]))
        rows.append({**row, "scorer": readable(name), "gain": gain})
    if not curves:
        return figure("reliability")
    if fit.get("baseline"):
        rows.append({**fit["baseline"], "scorer": f"{BASELINE}, for comparison"})
    panel = curve_panel(layout_of("reliability"), curves, "Reliability", are_shares=True)
    return figure("reliability", [panel], [table("reliability", rows)])


def cascades(data: ReportData) -> Figure:
    """List cascades: which scorer decided, and the loss against the expensive one alone."""
    rows = []
    for name, row in (data.fit.get("cascades") or {}).items():
        decided = [f"{readable(by)} {percent(share)}" for by, share in row["decided"].items()]
        recall = row["recall"]
        if recall is not None:
            low, high = row["recall_interval"]
            recall = {"value": recall, "low": low, "high": high}
        shown = {"cascade": readable(name), "decided": "; ".join(decided), "recall": recall}
        rows.append({**row, **shown})
    return figure("cascades", tables=[table("cascades", rows)])
