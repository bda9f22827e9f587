"""Lines that the stages print about their measurements."""

from collections.abc import Iterator, Sequence

from safelm.builder.terminal import align_columns
from safelm.evaluation.measurements import Measurement, pivot

# Heading: the metric of harmful suites or the one of harmless suites; "" where there is none.
HEADINGS = {
    "asr": ("asr", ""),
    "strict": ("asr_strict", ""),
    "complied": ("", "complied"),
    "refused": ("refused", "over_refusal"),
    "neither": ("neither", "unhelpful"),
    "unjudged": ("unjudged", "unjudged"),
}


def rate_table(rows: Sequence[Measurement], *columns: str) -> list[str]:
    """Print a line of rates for every value of `columns`, over all forms of prompts."""
    totals = [row for row in rows if row.judge and row.form is None]
    lines: list[Sequence[str]] = [[*columns, "prompts", *HEADINGS]]
    for names, found in pivot(totals, *columns).items():
        is_harmless = "complied" in found
        cells = ["" if name is None else str(name) for name in names]
        cells.append(str(found["unjudged"].of))
        for metrics in HEADINGS.values():
            metric = metrics[is_harmless]
            cells.append(percent(found[metric]) if metric else "")
        lines.append(cells)
    return align_columns(lines, len(columns))


def percent(row: Measurement) -> str:
    """Return a share as a percentage, or nothing where it was not measured."""
    return "" if row.value is None else f"{row.value:.1%}"


def evaluation_summary(rows: Sequence[Measurement]) -> list[str]:
    """Print the rates of a model and its checkpoints, prompts that were left out, and utility."""
    lines = rate_table(rows, "checkpoint", "decoder", "suite", "judge")
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
        prompts, total = found["prompts"].count, found["rows"].count
        yield f"{suite}: {prompts:,} of {total:,} rows used; left out: {', '.join(reasons)}"


def _utility(suite: str, found: dict[str, Measurement]) -> Iterator[str]:
    if "prompts" in found:
        return
    shares = [row for row in found.values() if row.of and row.low is None and not row.bin_edge]
    shown = [f"{row.metric} {percent(row)} of {row.of}" for row in shares]
    yield f"{suite}: {', '.join(shown)}"
    areas = []
    for name in ("best", "last", "words"):
        row = found.get(f"probe_auroc_{name}")
        if row and row.value is not None:
            layer = "" if row.layer is None else f" (layer {row.layer})"
            areas.append(f"{name}{layer} {row.value:.3f}")
    if areas:
        yield f"{suite}: linear probes, area under the ROC curve: {', '.join(areas)}"


def relearning_summary(rows: Sequence[Measurement]) -> list[str]:
    """Print the rates of relearning curves, and the loss along each."""
    lines = rate_table(rows, "row", "model", "checkpoint", "decoder", "suite", "judge")
    losses: dict[str, list[str]] = {}
    for row in rows:
        if row.metric == "held_out_loss" and row.value is not None:
            name = f"{row.row}, {row.model}"
            losses.setdefault(name, []).append(f"{row.value:.3f}")
    for name, values in losses.items():
        lines.append(f"{name}: loss on held-out harmful pairs {' → '.join(values)}")
    return lines
