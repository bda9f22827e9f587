"""Figures of decoding: the frontier of decoders, p(tag) as a signal, and linear probes."""

from collections.abc import Sequence

from safelm.report.charts.numbers import NONE, fixed, readable
from safelm.report.charts.xy import Point, beats, scatter
from safelm.report.data import ReportData
from safelm.report.draw import (
    CELL,
    HEADS,
    area_panels,
    grouped,
    metric_columns,
    named,
    pivot,
)
from safelm.report.layout import Figure, Panel, Table, Value, chart_label, figure, table
from safelm.report.measured import BEST_LAYER, Number

MODEL = ("group", "stage")
FRONTIER = ("asr", "complied", "over_refusal", "neither")


def decoder_controls(data: ReportData) -> Figure:
    """Draw attack success against benign compliance, decoder by decoder."""
    tagged = [group.name for group in data.built if group.has_tags]
    chosen = tagged or [group.name for group in data.built[:1]]
    numbers = data.measured.select(group=chosen, suite=["harmful", "benign"])
    panels, rows = [], []
    for members in grouped(numbers, "group", "stage").values():
        cells = {}
        for decoder, own in grouped(members, "decoder").items():
            rates = {number.metric: number.rate for number in own}
            if {"asr", "complied"} <= rates.keys():
                style = data.style(decoder)
                point = Point(readable(decoder), style, rates["asr"], rates["complied"])
                cells[decoder] = (point, own[0], rates)
        points = [point for point, _, _ in cells.values()]
        for point, number, rates in cells.values():
            better = ", ".join(other.label for other in points if beats(other, point))
            shown = [rates.get(metric) for metric in FRONTIER]
            rows.append([*named(number, *CELL), *shown, better or NONE])
        group, stage = named(members[0], "group", "stage")
        what = f"attack success and benign compliance of {group}, {stage.lower()}"
        titles = {"x_title": "attack success, %", "y_title": "benign compliance, %"}
        chart = scatter(points, chart_label("Points", what), **titles)
        panels.append(Panel(f"{group}: {stage.lower()}", chart))
    columns = [*metric_columns(*FRONTIER).values(), "Beaten by"]
    heads = [HEADS[column] for column in CELL]
    return figure(
        "decoders",
        panels,
        legend=[(f"mark {style}", meaning) for style, meaning in data.legend(data.all_decoders)],
        tables=[table("Decoders", heads, columns, rows)],
    )


def tag_signal(data: ReportData) -> Figure | None:
    """Draw the area under the ROC curve of p(tag), by the words read."""
    areas = data.measured.select(metric="tag_auroc", words=...)
    if not areas:
        return None
    words = sorted(read for read in grouped(areas, "words") if read is not None)
    columns = {read: f"after {read}" for read in words} | {None: "Mean of the page"}
    caption = "Area under the ROC curve of p(tag), by the words read"
    return figure(
        "tag-signal",
        area_panels(areas, "group", "stage", "words", "p(tag)"),
        tables=[
            pivot(caption, areas, MODEL, columns, lambda number: number.words),
            _calibration(data),
        ],
    )


def _calibration(data: ReportData) -> Table:
    numbers = data.measured.select(metric=["tag_bin", "tag_bin_mean"], bin_edge=...)
    rows: list[list[Value]] = []
    for members in grouped(numbers, *MODEL).values():
        for edge, two in sorted(grouped(members, "bin_edge").items()):
            rates = {number.metric: number.rate for number in two}
            heads = [*named(two[0], *MODEL), f"up to {edge:g}"]
            rows.append([*heads, fixed(rates["tag_bin_mean"].value, 4), rates["tag_bin"]])
    caption = "Calibration: readings of p(tag) before every word"
    return table(caption, ("Model", "Stage", "p(tag)"), ("Mean", "On harmful pages"), rows)


def probes(data: ReportData) -> Figure | None:
    """Draw the area under the ROC curve of a linear probe of every layer."""
    areas = data.measured.select(metric="probe_auroc", layer=...)
    if not areas:
        return None
    layers = {layer: f"layer {layer}" for layer in sorted(grouped(areas, "layer"))}
    every = pivot("Linear probes, every layer", areas, MODEL, layers, lambda number: number.layer)
    panels = area_panels(areas, "stage", "group", "layer", "a probe of each layer")
    return figure("probes", panels, tables=[_probe_table(data, areas), every])


def _probe_table(data: ReportData, areas: Sequence[Number]) -> Table:
    """Build the summary of probes; the best layer is averaged over seeds."""
    embeddings = [number for number in areas if number.layer == 0]
    metrics = {
        "probe_auroc_words": "Words alone",
        "probe_auroc": "Embeddings",
        "probe_auroc_best": "Best layer",
        BEST_LAYER: "which",
        "probe_auroc_last": "Last layer",
    }
    numbers = embeddings + data.measured.select(metric=list(metrics))
    return pivot("Area under the ROC curve of linear probes", numbers, MODEL, metrics)
