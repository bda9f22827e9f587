"""Figures of scorers: confusion matrices (Figure 5), audit, calibration and cascades."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from safelm.report.cards import matrices
from safelm.report.charts.bars import Stack, stacked
from safelm.report.charts.heatmap import Square, heat_map
from safelm.report.charts.numbers import NONE, fixed, percent, points, readable, short_percent
from safelm.report.charts.xy import Curve, lines
from safelm.report.data import ReportData
from safelm.report.layout import (
    STYLES,
    Cell,
    Figure,
    Panel,
    Table,
    Value,
    chart_label,
    figure,
    table,
)
from safelm.stats.classification import (
    BASELINE,
    Matrix,
    f1_scores,
    false_alarm_rate,
    recall_rate,
)
from specs.spec import SCORE_LEVELS

Json = Mapping[str, Any]


def scorers(data: ReportData) -> Iterator[Figure]:
    """Draw everything that was measured of scorers."""
    fit, audit = data.inputs.fit, data.inputs.audit
    if fit:
        yield _classifier(data)
    if audit:
        yield _audit(audit)
    rows = (fit.get("scorers") or {}).items()
    calibrated = {name: row for name, row in rows if row.get("reliability")}
    if calibrated:
        yield _reliability(calibrated, fit.get("baseline"))
    if fit.get("cascades"):
        yield _cascades(fit["cascades"])


def macro_f1(matrix: Matrix) -> float | None:
    """Average F1 over the six classes, unrounded; None without documents."""
    return sum(f1_scores(matrix)) / SCORE_LEVELS if any(map(any, matrix)) else None


def _classifier(data: ReportData) -> Figure:
    """Draw Figure 5: the confusion matrices of our scorers beside the paper's."""
    paper, confidence = data.paper.classifier, data.confidence
    confusions = {_scorer_name(name): matrix for name, matrix in matrices(data.inputs.fit)}
    confusions |= {f"the paper's {name}": matrix for name, matrix in paper.matrices.items()}
    rows: list[list[Value]] = []
    for name, matrix in confusions.items():
        recalls = [recall_rate(matrix, level, confidence) for level in (1, 3)]
        f1 = fixed(macro_f1(matrix))
        rows.append([name, *recalls, false_alarm_rate(matrix, confidence), f1])
    for name, row in paper.table.items():
        if name not in paper.matrices:
            shares = (percent(row.recall_1), percent(row.recall_3))
            rows.append([f"the paper's table: {name}", *shares, NONE, fixed(row.macro_f1)])
    columns = ("Recall@1", "Recall@3", "False alarms", "Macro-F1")
    note = data.inputs.fit.get("note")
    panels = [_grid(name, matrix) for name, matrix in confusions.items() if any(map(any, matrix))]
    return figure(
        "figure-5",
        panels,
        note=f"{note} " if note else "",
        tables=[
            table("The scorer", ("Scorer",), columns, rows),
            *(_counts(name, matrix) for name, matrix in confusions.items()),
        ],
    )


def _scorer_name(name: str) -> str:
    """Describe a scorer and the labels it is measured against: `ngrams (known)` in words."""
    column, known, _ = name.partition(" (known")
    return f"here: {readable(column)}, against {'labels of the source' if known else 'the judge'}"


def _grid(name: str, matrix: Matrix) -> Panel:
    rows = [(f"true {level}", _squares(counts, level)) for level, counts in enumerate(matrix)]
    columns = [str(level) for level in range(SCORE_LEVELS)]
    label = chart_label("Grid", f"confusion matrix of {name}")
    title = "predicted score"
    return Panel(name, heat_map(rows, columns, label, gutter=52.0, column_title=title))


def _squares(counts: Sequence[int], level: int) -> list[Square]:
    of = sum(counts)
    squares = []
    for predicted, count in enumerate(counts):
        hint = f"true {level}, predicted {predicted}: {count:,} of {of:,}"
        squares.append(Square(f"{count:,}", count / of if of else None, hint))
    return squares


def _counts(name: str, matrix: Matrix) -> Table:
    rows = [[str(level), *map("{:,}".format, counts)] for level, counts in enumerate(matrix)]
    columns = [f"predicted {level}" for level in range(SCORE_LEVELS)]
    return table(f"Confusion matrix: {name}", ("True score",), columns, rows)


def _audit(audit: Json) -> Figure:
    """Draw each predicted score, and the judge's scores of a sample of it."""
    stacks = []
    buckets: list[list[Value]] = []
    for row in audit["buckets"]:
        predicted = row["predicted"]
        if row["audited"]:
            parts = [(f"r{k}", f"judged {k}", count) for k, count in enumerate(row["judged"])]
            stacks.append(Stack(f"predicted {predicted}", parts))
        heads = [str(predicted), f"{row['documents']:,}", f"{row['audited']:,}"]
        rates = (row["precision"], row["benign"], row["recall"])
        buckets.append([*heads, *map(_share, rates)])
    levels: list[list[Value]] = [
        [f"{row['level']} or above", _share(row["precision"]), _share(row["recall"])]
        for row in audit["levels"]
    ]
    label = chart_label("Stacked bars", "the judge's scores of a sample of each predicted score")
    chart = stacked([("", stacks)], label, gutter=96.0)
    columns = ("Pages", "Audited", "Confirmed", "Benign", "Recall")
    return figure(
        "audit",
        [Panel("Scores by the judge", chart)] if stacks else [],
        audited=f"{audit['audited']:,}",
        documents=f"{audit['documents']:,}",
        confidence=short_percent(audit["confidence"]),
        legend=[(f"r{level}", f"judged {level}") for level in range(SCORE_LEVELS)],
        tables=[
            table("By predicted score", ("Predicted",), columns, buckets),
            table("At a score or above", ("Score",), ("Precision", "Recall"), levels),
        ],
    )


def _reliability(rows: Mapping[str, Json], baseline: Json | None) -> Figure:
    """Draw the reliability curve of each classifier, and list how well it ranks."""
    curves = []
    cells: list[list[Value]] = []
    for index, (name, row) in enumerate(rows.items()):
        curve = [(point["predicted"], point["observed"]) for point in row["reliability"]]
        curves.append(Curve(readable(name), STYLES[index % len(STYLES)], curve))
        ranking = (_share(row["auroc"]), _gain(row["gain"]))
        cells.append([readable(name), *ranking, fixed(row["calibration_error"])])
    if baseline:
        cells.append([f"{BASELINE}, for comparison", _share(baseline["auroc"]), NONE, NONE])
    label = chart_label("Curves", "share of unsafe pages by predicted probability")
    chart = lines(
        curves,
        label,
        x_title="predicted probability of a score above 0",
        y_title="share judged above 0",
        are_shares=True,
    )
    columns = ("AUROC", "Gain", "Calibration error")
    return figure(
        "reliability",
        [Panel("Reliability", chart)],
        tables=[table("Ranking and calibration", ("Classifier",), columns, cells)],
    )


def _cascades(cascades: Mapping[str, Json]) -> Figure:
    """List which scorer decided, and the loss against the expensive scorer on everything."""
    rows: list[list[Value]] = []
    for name, row in cascades.items():
        shares = [
            f"{readable(scorer)} {percent(share)}" for scorer, share in row["decided"].items()
        ]
        low, high = row["recall_interval"]
        kept = {"value": row["recall"], "low": low, "high": high}
        cells: list[Value] = [
            readable(name),
            Cell("", lines=shares),
            percent(row["dear_characters"]),
            percent(row["asked_recall"]),
            _share(kept if row["recall"] is not None else None),
            f"{row['measured_on']:,}",
        ]
        rows.append(cells)
    columns = (
        "Decided by",
        "Text that the expensive scorer read",
        "Recall required",
        "Recall kept",
        "Pages",
    )
    return figure(
        "cascades",
        tables=[table("Share, cost and loss", ("Cascade",), columns, rows)],
    )


def _share(rate: Json | None) -> Cell:
    if rate is None:
        return Cell(NONE)
    return Cell(percent(rate["value"]), f"[{rate['low'] * 100:.1f}, {rate['high'] * 100:.1f}]")


def _gain(gain: Json | None) -> Cell:
    if gain is None:
        return Cell(NONE)
    return Cell(*points(gain["value"], gain["low"], gain["high"]))
