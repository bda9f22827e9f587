"""Lines that the stages print about their measurements."""

from collections.abc import Iterator, Mapping, Sequence

from safelm.builder.terminal import align_columns
from safelm.evaluation.measurements import Measurement, pivot

# A column of the table and the metrics that it shows: of harmful suites, else of harmless ones.
COLUMNS = {
    "asr": ("asr",),
    "strict": ("asr_strict",),
    "complied": ("complied",),
    "refused": ("over_refusal", "refused"),
    "neither": ("neither", "unhelpful"),
}


def evaluation_summary(rows: Sequence[Measurement]) -> list[str]:
    """Describe an evaluation: rates of the model, rows left out, utility, then checkpoints."""
    totals = [row for row in rows if row.decoder and row.form is None]
    lines = _rates([row for row in totals if row.checkpoint is None])
    lines += [*_left_out(rows), *_harness_tasks(rows), *_probes(rows)]
    for pairs in sorted({row.checkpoint for row in totals if row.checkpoint is not None}):
        lines.append(f"after {pairs} pairs")
        lines += _rates([row for row in totals if row.checkpoint == pairs])
    return lines


def _rates(totals: Sequence[Measurement]) -> list[str]:
    """Make a line for each decoder, suite and judge."""
    lines: list[Sequence[str]] = [("decoder", "suite", "judge", "prompts", *COLUMNS, "unjudged")]
    for names, found in pivot(totals, "decoder", "suite", "judge").items():
        shown = [_first(found, metrics) for metrics in COLUMNS.values()]
        unjudged = found["unjudged"]
        judged = (unjudged.of or 0) - (unjudged.count or 0)
        cells = (str(judged), *map(percent, shown), str(unjudged.count or ""))
        lines.append((*names, *cells))
    return align_columns(lines, 3)


def _first(found: Mapping[str, Measurement], metrics: Sequence[str]) -> Measurement | None:
    return next((found[metric] for metric in metrics if metric in found), None)


def percent(row: Measurement | None) -> str:
    """Return a share as a percentage, or nothing where it was not measured."""
    return "" if row is None or row.value is None else f"{row.value:.1%}"


def _left_out(rows: Sequence[Measurement]) -> Iterator[str]:
    facts = [row for row in rows if row.suite and row.decoder is None]
    for (suite,), found in pivot(facts, "suite").items():
        reasons = {
            metric.removeprefix("left_out_").replace("_", " "): row.count
            for metric, row in found.items()
            if metric.startswith("left_out_")
        }
        if reasons:
            counts = ", ".join(f"{count:,} {reason}" for reason, count in reasons.items())
            prompts, total = found["prompts"].count, found["rows"].count
            yield f"{suite}: {prompts:,} of {total:,} rows used; left out: {counts}"


def _harness_tasks(rows: Sequence[Measurement]) -> Iterator[str]:
    utility = [row for row in rows if row.suite_kind == "utility"]
    for (suite,), found in pivot(utility, "suite").items():
        if "accuracy" not in found:  # which only the demo world's items have
            shown = (f"{metric} {percent(row)} of {row.of}" for metric, row in found.items())
            yield f"{suite}: {', '.join(shown)}"


def _probes(rows: Sequence[Measurement]) -> Iterator[str]:
    found = {row.metric: row for row in rows}
    best = found.get("probe_auroc_best")
    if best:
        labels = {
            f"layer {best.layer}": best,
            "last layer": found["probe_auroc_last"],
            "words alone": found["probe_auroc_words"],
        }
        areas = {label: row.value for label, row in labels.items() if row.value is not None}
        shown = ", ".join(f"{label} {value:.3f}" for label, value in areas.items())
        yield f"linear probe, area under the ROC curve: {shown}"


def relearning_summary(rows: Sequence[Measurement]) -> list[str]:
    """Describe relearning curves: a line for each row, model, decoder, checkpoint and suite."""
    shown = ("asr", "complied", "refused")
    lines: list[Sequence[str]] = [
        ("row", "model", "decoder", "pairs", "harmful loss", "suite", *shown)
    ]
    losses = {
        (row.row, row.model, row.checkpoint): row.value
        for row in rows
        if row.metric == "held_out_loss"
    }
    groups = pivot(_first_judge(rows), "row", "model", "decoder", "checkpoint", "suite")
    for (row, model, decoder, pairs, suite), found in groups.items():
        loss = losses[row, model, pairs]
        rates = [_first(found, COLUMNS[name]) for name in shown]
        text = "" if loss is None else f"{loss:.3f}"
        names = (row, model, decoder, str(pairs), text, suite)
        lines.append((*names, *map(percent, rates)))
    return align_columns(lines, 3)


def attack_summary(rows: Sequence[Measurement], conditions: Sequence[str]) -> list[str]:
    """Describe attacks: attack success under each condition, a line for each decoder.

    Suffixes are untrusted data, and not printed.
    """
    head = ("attack", "model", "stage", "decoder", "prompts")
    lines: list[Sequence[str]] = [(*head, *(f"asr {condition}" for condition in conditions))]
    asr: dict[tuple[str, ...], list[Measurement]] = {}
    for row in _first_judge(rows):
        if row.metric == "asr":
            names = (row.row, row.model, row.stage, row.decoder)
            asr.setdefault(tuple(map(str, names)), []).append(row)
    for cell, found in asr.items():
        lines.append((*cell, str(found[0].of), *map(percent, found)))
    return align_columns(lines, 4)


def _first_judge(rows: Sequence[Measurement]) -> list[Measurement]:
    return [row for row in rows if row.is_first_judge and row.form is None]
