"""Figures of decoding: the frontier of decoders, p(tag) as a signal, and linear probes."""

from collections.abc import Iterator, Sequence

from safelm.report.charts.numbers import NONE, readable
from safelm.report.charts.xy import Point, beats, scatter
from safelm.report.data import ReportData
from safelm.report.draw import grouped, measured_figure, named, pivot
from safelm.report.layout import (
    Figure,
    Panel,
    Row,
    Table,
    chart_label,
    figure,
    index_of,
    layout_of,
    table,
)
from safelm.report.measured import Number


def decoder_controls(data: ReportData) -> Figure:
    """Draw attack success against benign compliance, decoder by decoder."""
    tagged = [group.name for group in data.built if group.has_tags]
    chosen = tagged or [group.name for group in data.built[:1]]
    numbers = data.measured.select(group=chosen, suite=["harmful", "benign"])
    layout = layout_of("decoders")
    panels, rows = [], []
    for (group, _), members in grouped(numbers, "group", "stage").items():
        drawn = list(_points(data, members))
        points = [point for point, _ in drawn]
        for point, cell in drawn:
            better = ", ".join(other.label for other in points if beats(other, point))
            rows.append({**cell, "beaten": better or NONE})
        heading = f"{group}: {named(members[0], 'stage')['stage'].lower()}"
        label = chart_label("points", f"{layout.title}, {heading}")
        chart = scatter(points, label, x_title=layout.across, y_title=layout.upwards)
        panels.append(Panel(heading, chart))
    legend = [(f"mark {style}", meaning) for style, meaning in data.legend(data.all_decoders)]
    return figure("decoders", panels, [table("decoders", rows)], legend=legend)


def _points(data: ReportData, numbers: Sequence[Number]) -> Iterator[tuple[Point, Row]]:
    """Iterate over decoders with both rates: (point, row of the table)."""
    for decoder, members in grouped(numbers, "decoder").items():
        rates = {number.metric: number.rate for number in members if number.rate.of}
        # A decoder of one suite alone has no place on the plane.
        if {"asr", "complied"} <= rates.keys():
            style, row = data.style(decoder), named(members[0], *index_of("decoders"))
            point = Point(readable(decoder), style, rates["asr"], rates["complied"])
            yield point, {**row, **rates}


def tag_signal(data: ReportData) -> Figure:
    """Draw the area under the ROC curve of p(tag), by the words read."""
    areas = data.measured.select(metric="tag_auroc", words=...)
    words = sorted(read for read in grouped(areas, "words") if read is not None)
    columns = {read: f"after {read}" for read in words} | {None: "Mean of the page"}
    tables = [pivot("tag-signal", areas, columns, on="words"), _calibration(data)]
    return measured_figure(data, "tag-signal", areas, tables)


def _calibration(data: ReportData) -> Table:
    bins: list[Number] = []
    numbers = data.measured.select(metric=["tag_bin", "tag_bin_mean"], bin_edge=...)
    for members in grouped(numbers, "group", "stage").values():
        bins += sorted(members, key=lambda number: number.bin_edge or 0.0)
    return pivot("calibration", bins)


def probes(data: ReportData) -> Figure:
    """Draw the area under the ROC curve of a linear probe of every layer."""
    areas = data.measured.select(metric="probe_auroc", layer=...)
    layers = {layer: f"layer {layer}" for layer in sorted(grouped(areas, "layer"))}
    every = pivot("probe-layers", areas, layers, on="layer")
    # The best layer has a number of its own, averaged over seeds.
    embeddings = [number for number in areas if number.layer == 0]
    summary = pivot("probes", embeddings + data.measured.select())
    return measured_figure(data, "probes", areas, [summary, every])
