"""The judges, scorers and writers of every number, and the path of documents to tokens."""

from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any

from safelm.builder.manifest import Ledger
from safelm.report.charts.numbers import readable
from safelm.report.data import ReportData
from safelm.report.draw import stack_panel
from safelm.report.layout import Cell, Figure, Row, figure, layout_of, name_of, share_cell, table
from specs.prompt import STAGES

SOURCE_STEPS = {"ingest": "read", "clean": "cleaned", "score": "scored"}


def makers(data: ReportData) -> list[Row]:
    """List each row of params.yaml that labelled, scored, audited, wrote or judged something.

    `key` is the role, or the suite of a judge, by which rows of figures.yaml name it.
    """
    made = []
    for role, names in data.declared.made_by.items():
        title = name_of("role", role).format(rule=data.declared.rule)
        made += [(role, title, name, kind) for name, kind in names.items()]
    for suite, _, name, kind, is_first in data.measured.judges.iter_rows():
        title = f"{'first' if is_first else 'further'} judge of {readable(suite)}"
        made.append((suite, title, name, kind))
    rows: list[Row] = []
    for key, title, name, kind in made:
        what = name_of("kind", kind)
        rows.append({"key": key, "role": title, "by": readable(name), "what": what})
    return rows


def declared_makers(params: Any) -> dict[str, dict[str, str]]:
    """Return the rows of params.yaml that labelled, scored, audited and wrote, with their kinds."""
    scorers = {
        "labels": [params.annotate.judge],
        "scores": params.score.ensemble.of,
        "audit": [params.audit.judge],
    }
    made_by = {}
    for role, names in scorers.items():
        made_by[role] = {name: params.scorers[name].kind for name in names}
    rows = chain(*(getattr(params, stage).values() for stage in STAGES))
    made_by["writer"] = {row.engine: params.engines[row.engine].kind for row in rows}
    return made_by


def made_by(data: ReportData) -> Figure:
    """List who made the numbers of the report."""
    return figure("makers", tables=[table("makers", makers(data))])


def funnel(data: ReportData) -> Figure:
    """Draw the documents of each source from the first stage to the tokens of mixtures."""
    legend = layout_of("funnel").legend
    panels = []
    rows = []
    for source in data.declared.sources:
        steps = list(_steps(data, source))
        read = max((ledger.rows_in for _, ledger, _ in steps), default=0)
        bars = {}
        for name, ledger, size in steps:
            losses = [sum(counts.values()) for counts in (ledger.dropped, ledger.quarantined)]
            bars[name] = [ledger.rows_out, *losses, read - ledger.rows_in]
            out = share_cell(ledger.rows_out, read)
            rows.append({"source": source, "step": name, **ledger_row(ledger), "out": out, **size})
        panels += [stack_panel(source, bars, legend)] if read else []
    return figure("funnel", panels, [table("funnel", rows)])


def _steps(data: ReportData, source: str) -> Iterator[tuple[str, Ledger, Mapping[str, int]]]:
    """Iterate over the stages that read a source: (name, its ledger, bytes or tokens)."""
    kept = 0
    for stage, name in SOURCE_STEPS.items():
        output = f"{stage}/{source}"
        if output in data.ledgers:
            ledger = data.ledgers[output]
            kept = ledger.rows_out
            size = sum(file.bytes for _, file in data.manifests[output].files())
            yield name, ledger, {"bytes": size}
    origins = {f"{stage}/{source}" for stage in SOURCE_STEPS}
    read = dict(chain(*(plan.get("corpora", {}).items() for plan in data.plans.values())))
    corpora = data.declared.corpora.items()
    chosen = [read[name] for name, row in corpora if row.from_ in origins and name in read]
    if chosen and kept:
        # Corpora may share documents.
        documents = min(kept, sum(corpus["documents"] for corpus in chosen))
        unread = {"in_no_mixture": kept - documents} if documents < kept else {}
        tokens = sum(corpus.get("tokens", 0) for corpus in chosen)
        yield "in mixtures", Ledger(kept, documents, unread), {"tokens": tokens}


def ledger(data: ReportData) -> Figure:
    """List where every row of every source went."""
    ledgers = data.ledgers.items()
    rows = [{"stage": stage, **ledger_row(counts)} for stage, counts in ledgers]
    return figure("ledger-table", tables=[table("ledger", rows)])


def ledger_row(ledger: Ledger) -> Row:
    """Show how many rows came in and went out, and how many were lost for each reason."""
    row: dict[str, Any] = {"in": ledger.rows_in, "out": ledger.rows_out}
    lost = {"dropped": ledger.dropped, "quarantined": ledger.quarantined}
    for way, counts in lost.items():
        lines = [f"{readable(reason)} {count:,}" for reason, count in counts.items()]
        row[way] = Cell(f"{sum(counts.values()):,}", "\n".join(lines))
    return row
