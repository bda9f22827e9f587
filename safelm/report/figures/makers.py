"""The judges, scorers and writers of every number, and the path of documents to tokens."""

from collections.abc import Iterator, Mapping
from typing import Any

from safelm.builder.manifest import Ledger
from safelm.report.charts.numbers import percent, readable
from safelm.report.data import ReportData
from safelm.report.draw import stack_panel
from safelm.report.inputs import Json
from safelm.report.layout import Cell, Figure, Panel, Row, figure, layout_of, table, table_layout
from specs.prompt import STAGES

SOURCE_STEPS = {"ingest": "read", "clean": "cleaned", "score": "scored"}


def makers(data: ReportData) -> list[Row]:
    """List each row of params.yaml that labelled, scored, audited, wrote or judged something.

    `key` is the role, or the suite of a judge, by which rows of figures.yaml name it.
    """
    rows: list[Row] = []
    roles = table_layout("makers")["roles"]
    for key, names in data.declared.made_by.items():
        for name, kind in names.items():
            made = roles[key].format(rule=data.declared.rule)
            rows.append({"key": key, "role": made, "by": readable(name), "what": kind_of(kind)})
    for suite, _, name, kind, is_first in data.measured.judges.iter_rows():
        role = f"{'first' if is_first else 'further'} judge of {readable(suite)}"
        rows.append({"key": suite, "role": role, "by": readable(name), "what": kind_of(kind)})
    return rows


def kind_of(kind: str) -> str:
    """Describe a kind of judge, scorer or engine, as tables.yaml does."""
    return table_layout("makers")["kinds"].get(kind, kind)


def declared_makers(params: Any) -> dict[str, dict[str, str]]:
    """Return the rows of params.yaml that labelled, scored, audited and wrote, with their kinds."""
    scorers = {name: row.kind for name, row in params.scorers.items()}
    engines = {name: row.kind for name, row in params.engines.items()}
    writers = [row for stage in STAGES for row in getattr(params, stage).values()]
    return {
        "labels": {row: scorers[row] for row in [params.annotate.judge]},
        "scores": {row: scorers[row] for row in params.score.ensemble.of},
        "audit": {row: scorers[row] for row in [params.audit.judge]},
        "writer": {row.engine: engines[row.engine] for row in writers},
    }


def made_by(data: ReportData) -> Figure:
    """List who made the numbers of the report."""
    return figure("makers", tables=[table("makers", makers(data))])


def funnel(data: ReportData) -> Figure:
    """Draw the documents of each source from the first stage to the tokens of mixtures."""
    legend = layout_of("funnel").legend
    panels: list[Panel] = []
    rows: list[Row] = []
    for source in data.declared.sources:
        steps = dict(_steps(data, source))
        read = max((ledger.rows_in for ledger, *_ in steps.values()), default=0)
        bars = {}
        for name, (ledger, size, tokens) in steps.items():
            lost = {"dropped": ledger.dropped, "quarantined": ledger.quarantined}
            losses = [sum(counts.values()) for counts in lost.values()]
            bars[name] = [ledger.rows_out, *losses, read - ledger.rows_in]
            row: dict[Any, Any] = {"source": source, "step": name, "in": ledger.rows_in}
            row |= {key: reasons(counts) for key, counts in lost.items()}
            share = percent(ledger.rows_out / read) if read else ""
            row |= {"out": Cell(f"{ledger.rows_out:,}", share), "bytes": size, "tokens": tokens}
            rows.append(row)
        panels += [stack_panel(source, bars, legend)] if read else []
    return figure("funnel", panels, [table("funnel", rows)])


def _steps(
    data: ReportData, source: str
) -> Iterator[tuple[str, tuple[Ledger, int | None, int | None]]]:
    """Iterate over the stages that read a source: (name, its ledger, bytes and tokens)."""
    inputs, kept = data.inputs, 0
    for stage in SOURCE_STEPS:
        name = f"{stage}/{source}"
        if name in inputs.ledgers:
            kept = inputs.ledgers[name].rows_out
            yield SOURCE_STEPS[stage], (inputs.ledgers[name], inputs.sizes[name], None)
    origins = {f"{stage}/{source}" for stage in SOURCE_STEPS}
    read: dict[str, Json] = {}
    for plan in inputs.plans.values():
        read |= plan.get("corpora", {})
    corpora = data.declared.corpora.items()
    chosen = [read[name] for name, row in corpora if row.from_ in origins and name in read]
    if chosen and kept:
        # Corpora may share documents.
        documents = min(kept, sum(corpus["documents"] for corpus in chosen))
        unread = {"in_no_mixture": kept - documents} if documents < kept else {}
        ledger = Ledger(kept, documents, unread)
        yield "in mixtures", (ledger, None, sum(corpus.get("tokens", 0) for corpus in chosen))


def reasons(counts: Mapping[str, int]) -> Cell:
    """Show how many rows were lost, and below it how many for each reason."""
    lines = (f"{readable(name)} {count:,}" for name, count in counts.items())
    return Cell(f"{sum(counts.values()):,}", "\n".join(lines))
