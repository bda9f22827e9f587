"""Figures of decoding: the frontier of decoders, p(tag) as a signal, and linear probes."""

from safelm.report.charts.numbers import NONE, readable
from safelm.report.charts.svg import Point, better_points, draw
from safelm.report.data import ReportData
from safelm.report.draw import grouped, measured_figure, named, pivot, rows_of
from safelm.report.layout import Figure, Panel, chart_label, figure, layout_of, table
from safelm.report.measured import Number


def decoder_controls(data: ReportData) -> Figure:
    """Draw attack success against benign compliance, decoder by decoder."""
    tagged = [group.name for group in data.built if group.has_tags]
    chosen = tagged or [group.name for group in data.built[:1]]
    numbers = data.measured.select(group=chosen, suite=["harmful", "benign"])
    layout = layout_of("decoders")
    panels, rows = [], []
    for (group, _), members in grouped(numbers, "group", "stage").items():
        drawn = []
        for names, own in rows_of("decoders", members):
            rates = {number.metric: number.rate for number in own if number.rate.of}
            # A decoder of one suite alone has no place on the plane.
            if {"asr", "complied"} <= rates.keys():
                decoder = own[0].decoder
                pair = (rates["asr"], rates["complied"])
                point = Point(readable(decoder), data.styles[decoder], *pair)
                drawn.append((point, {**names, **rates}))
        points = [point for point, _ in drawn]
        frontier = []
        for point, cells in drawn:
            better = [other.label for other in better_points(point, points)]
            rows.append({**cells, "beaten": ", ".join(better) or NONE})
            frontier += [] if better else [point.values]
        heading = f"{group}: {named(members[0], 'stage')['stage'].lower()}"
        label = chart_label("points", f"{layout.title}, {heading}")
        chart = draw("scatter", points, sorted(frontier), label, layout.across, layout.upwards)
        panels.append(Panel(heading, chart))
    legend = [(f"mark {style}", meaning) for style, meaning in data.legend(data.all_decoders)]
    bounded = data.measured.values("decoder", metric="refusal_bound")
    bounds = pivot("bounds", data.measured.select(group=chosen, decoder=bounded))
    return figure("decoders", panels, [table("decoders", rows), bounds], legend=legend)


def tag_signal(data: ReportData) -> Figure:
    """Draw the area under the ROC curve of p(tag), by the words read."""
    areas = data.measured.select(metric="tag_auroc", words=...)
    bins: list[Number] = []
    numbers = data.measured.select(metric=["tag_bin", "tag_bin_mean"], bin_edge=...)
    for members in grouped(numbers, "group", "stage").values():
        bins += sorted(members, key=lambda number: number.bin_edge or 0.0)
    tables = [pivot("tag-signal", areas), pivot("calibration", bins)]
    return measured_figure(data, "tag-signal", areas, tables)


def probes(data: ReportData) -> Figure:
    """Draw the area under the ROC curve of a linear probe of every layer."""
    areas = data.measured.select(metric="probe_auroc", layer=...)
    # The best layer has a number of its own, averaged over seeds.
    embeddings = [number for number in areas if number.layer == 0]
    summary = pivot("probes", embeddings + data.measured.select())
    return measured_figure(data, "probes", areas, [summary, pivot("probe-layers", areas)])
