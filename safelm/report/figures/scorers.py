"""Figures of the scorers beyond their confusion matrices: the audit, how sure they are, and what
cascades cost.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from safelm.report.charts.bars import Stack, stacked
from safelm.report.charts.numbers import NONE, percent, plain, points_between, whole
from safelm.report.charts.xy import Curve, lines
from safelm.report.figure import STYLES, Book, Cell, Figure, Panel, Table
from safelm.stats.classification import BASELINE
from specs.spec import SCORE_LEVELS

LEVELS = range(SCORE_LEVELS)
Json = Mapping[str, Any]


def scorer_figures(book: Book) -> Iterator[Figure]:
    """What was measured of them."""
    if book.inputs.audit:
        yield _audit(book.inputs.audit)
    fit = book.inputs.fit or {}
    sure = {name: row for name, row in (fit.get("scorers") or {}).items() if row.get("reliability")}
    if sure:
        yield _reliability(sure, fit.get("baseline"))
    if fit.get("cascades"):
        yield _cascades(fit["cascades"])


def _audit(found: Json) -> Figure:
    """Each predicted score, and what the judge said of a sample of it."""
    rows = [row for row in found["buckets"] if row["audited"]]
    stacks = [
        Stack(
            f"predicted {row['predicted']}",
            tuple((f"r{k}", f"judged {k}", row["judged"][k]) for k in LEVELS),
        )
        for row in rows
    ]
    label = "Stacked bars: what the judge said of a sample of each predicted score; the numbers are in the table below."
    buckets = [
        [
            Cell(str(row["predicted"])),
            Cell(f"{row['documents']:,}"),
            Cell(f"{row['audited']:,}"),
            *(_cell(row[name]) for name in ("precision", "benign", "recall")),
        ]
        for row in found["buckets"]
    ]
    levels = [
        [Cell(f"{row['level']} or above"), _cell(row["precision"]), _cell(row["recall"])]
        for row in found["levels"]
    ]
    return Figure(
        "audit",
        "The audit: scores shown to the judge again",
        f"A sample of each predicted score, {found['audited']:,} of {found['documents']:,} pages, went back to the "
        f"judge. Intervals at {whole(found['confidence'])}: Wilson's for what it confirms or calls benign (0 or 1); "
        "those of recall join the worst ends of every score's own: a sample without a miss leaves room for misses.",
        [Panel("What the judge said", stacked([("", stacks)], label, gutter=96.0))]
        if stacks
        else [],
        [(f"r{level}", f"judged {level}") for level in LEVELS],
        tables=[
            Table(
                "By predicted score",
                ["Predicted", "Pages", "Audited", "Confirmed", "Benign", "Recall"],
                buckets,
            ),
            Table("At a score or above", ["Score", "Precision", "Recall"], levels),
        ],
    )


def _reliability(scorers: Mapping[str, Json], baseline: Json | None) -> Figure:
    """The reliability curve of each classifier, and how well it ranks."""
    curves = [
        Curve(
            plain(name),
            STYLES[place % len(STYLES)],
            [(point["predicted"], point["observed"]) for point in row["reliability"]],
        )
        for place, (name, row) in enumerate(scorers.items())
    ]
    rows = [
        [
            Cell(plain(name)),
            _cell(row["auroc"]),
            _gain(row["gain"]),
            Cell(_three(row["calibration_error"])),
        ]
        for name, row in scorers.items()
    ]
    if baseline:
        rows.append(
            [Cell(f"{BASELINE}, for comparison"), _cell(baseline["auroc"]), Cell(NONE), Cell(NONE)]
        )
    label = "Curves: of pages by their predicted chance of being unsafe, the share that is; the table has the summary."
    titles = {"x_title": "predicted chance of a score above 0", "y_title": "share judged above 0"}
    return Figure(
        "reliability",
        "How sure the classifiers are",
        "Held-out pages in tenths of the predicted chance; a calibrated classifier lies on the diagonal. λ, the weight "
        "of unsafe pages in the loss, lifts the chances on purpose. The gain is in AUROC over the simplest classifier, "
        "fitted and measured on the same pages.",
        [Panel("Reliability", lines(curves, label, **titles, are_shares=True))],
        tables=[
            Table(
                "Ranking and calibration",
                ["Classifier", "AUROC", "Gain", "Calibration error"],
                rows,
            )
        ],
    )


def _cascades(found: Mapping[str, Json]) -> Figure:
    """Who decided, and what was lost against the dear scorer on everything."""
    rows = []
    for name, row in found.items():
        low, high = row["recall_interval"]
        kept = (
            Cell(NONE)
            if row["recall"] is None
            else _cell({"value": row["recall"], "low": low, "high": high})
        )
        shares = [f"{plain(scorer)} {percent(share)}" for scorer, share in row["decided"].items()]
        rows.append(
            [
                Cell(plain(name)),
                Cell("", lines=shares),
                Cell(percent(row["dear_characters"])),
                Cell(percent(row["asked_recall"])),
                kept,
                Cell(f"{row['measured_on']:,}"),
            ]
        )
    head = [
        "Cascade",
        "Decided by",
        "Text the dear one read",
        "Recall asked",
        "Recall kept",
        "Pages",
    ]
    return Figure(
        "cascades",
        "Cascades",
        "A cheap scorer decides the clear pages, a dear one reads the rest. Thresholds were fitted on one half of the "
        "held-out pages; this is the other half, against the dear scorer on everything.",
        tables=[Table("Share, cost and loss", head, rows)],
    )


def _cell(rate: Json | None) -> Cell:
    """A rate with its interval."""
    if rate is None:
        return Cell(NONE)
    return Cell(percent(rate["value"]), f"[{rate['low'] * 100:.1f}, {rate['high'] * 100:.1f}]")


def _gain(gain: Json | None) -> Cell:
    return (
        Cell(NONE)
        if gain is None
        else Cell(*points_between(gain["value"], gain["low"], gain["high"]))
    )


def _three(value: float | None) -> str:
    return NONE if value is None else f"{value:.3f}"
