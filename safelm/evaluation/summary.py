"""Summaries of measurements that the stages print."""

from collections.abc import Iterator, Sequence

from safelm.builder.terminal import align_columns
from safelm.evaluation.measurements import Measurement, pivot

# The metrics under each heading, of harmful suites and of harmless ones; "" if there is none.
HEADINGS = {
    "asr": ("asr", ""),
    "strict": ("asr_strict", ""),
    "complied": ("", "complied"),
    "refused": ("refused", "over_refusal"),
    "neither": ("neither", "unhelpful"),
    "unjudged": ("unjudged", "unjudged"),
}


def rate_table(rows: Sequence[Measurement], *columns: str) -> list[str]:
    """Return a table with a line of rates for every value of `columns`, over all forms."""
    totals = [row for row in rows if row.judge and row.form is None]
    lines: list[Sequence[str]] = [[*columns, "prompts", *HEADINGS]]
    for names, found in pivot(totals, *columns).items():
        cells = ["" if name is None else str(name) for name in names]
        # The only share of all prompts: the others are of those that were judged.
        prompts = found["unjudged"].of
        cells.append(str(prompts))
        is_harmless = "complied" in found
        for of_harmful, of_harmless in HEADINGS.values():
            metric = of_harmless if is_harmless else of_harmful
            cell = percent(found[metric]) if metric else ""
            cells.append(cell)
        lines.append(cells)
    return align_columns(lines, len(columns))


def percent(row: Measurement) -> str:
    """Return a share as a percentage; empty if it was not measured."""
    return "" if row.value is None else f"{row.value:.1%}"


def evaluation_summary(rows: Sequence[Measurement]) -> list[str]:
    """Return the rates of a model and its checkpoints, the prompts left out, and utility."""
    lines = rate_table(rows, "checkpoint", "decoder", "suite", "judge")
    # Facts about a suite's file, and measurements of utility, which decode nothing.
    without_decoder = [row for row in rows if row.suite and row.decoder is None]
    for (suite,), found in pivot(without_decoder, "suite").items():
        lines += _left_out(suite, found)
        lines += _utility(suite, found)
    return lines


def _left_out(suite: str, found: dict[str, Measurement]) -> Iterator[str]:
    reasons = []
    for metric, row in found.items():
        if metric.startswith("left_out_"):
            reason = metric.removeprefix("left_out_").replace("_", " ")
            reasons.append(f"{row.count:,} {reason}")
    if reasons:
        prompts = found["prompts"].count
        total = found["rows"].count
        yield f"{suite}: {prompts:,} of {total:,} rows used; left out: {', '.join(reasons)}"


def _utility(suite: str, found: dict[str, Measurement]) -> Iterator[str]:
    # Only suites that are decoded have prompts.
    if "prompts" in found:
        return
    shares = []
    for row in found.values():
        # Areas under the ROC curve have an interval, and bins of p(tag) are too many to print.
        is_share = row.of and row.low is None and not row.bin_edge
        if is_share:
            shares.append(f"{row.metric} {percent(row)} of {row.of}")
    yield f"{suite}: {', '.join(shares)}"
    areas = []
    for name in ("best", "last", "words"):
        probe = found.get(f"probe_auroc_{name}")
        if probe is None or probe.value is None:
            continue
        # The baseline sees words, and has no layer.
        layer = "" if probe.layer is None else f" (layer {probe.layer})"
        areas.append(f"{name}{layer} {probe.value:.3f}")
    if areas:
        yield f"{suite}: linear probes, area under the ROC curve: {', '.join(areas)}"


def relearning_summary(rows: Sequence[Measurement]) -> list[str]:
    """Return the rates of relearning curves, and the loss along each curve."""
    lines = rate_table(rows, "row", "model", "checkpoint", "decoder", "suite", "judge")
    losses: dict[str, list[str]] = {}
    for row in rows:
        if row.metric == "held_out_loss" and row.value is not None:
            name = f"{row.row}, {row.model}"
            losses.setdefault(name, []).append(f"{row.value:.3f}")
    for name, values in losses.items():
        curve = " → ".join(values)
        lines.append(f"{name}: loss on held-out harmful pairs {curve}")
    return lines
