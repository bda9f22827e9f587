"""Figures of data and training: the report card (Figure 1), curves, mixtures and the ledger."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from statistics import fmean
from typing import Any

from safelm.report.cards import hazard_counts, hazards, histogram, per_million
from safelm.report.charts.bars import Pair, Stack, pairs, stacked
from safelm.report.charts.numbers import NONE, fixed, percent, readable
from safelm.report.charts.xy import Curve, lines
from safelm.report.data import ReportData
from safelm.report.inputs import Json, Points
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
from specs.corpus import ScoredCorpus
from specs.spec import SCORE_LEVELS

SCORES = [(f"r{level}", f"score {level}") for level in range(SCORE_LEVELS)]
RUN_FACTS = ("parameters", "tokens", "steps", "loss", "final_loss")  # of train.json


def report_card(data: ReportData) -> list[Figure]:
    """Draw Figure 1: scores and hazard n-grams of every corpus, before and after rephrasing."""
    return [_scores(data), _hazards(data)] if data.inputs.cards else []


def _scores(data: ReportData) -> Figure:
    counts = {name: histogram(card) for name, card in data.inputs.cards.items()}
    corpora = data.declared.corpora.items()
    scored = [name for name, row in corpora if isinstance(row, ScoredCorpus) and name in counts]
    web = {}
    if scored:
        columns = zip(*(counts[name] for name in scored), strict=True)
        web["the whole web"] = [sum(column) for column in columns]
    web["the paper"] = list(data.paper.card.documents)
    web |= {readable(name): counts[name] for name in scored}
    others = {readable(name): row for name, row in counts.items() if name not in scored}
    panels = [_score_panel(web, "The scored web")]
    if others:
        panels.append(_score_panel(others, "Written and other corpora"))
    rows: list[list[Value]] = []
    for name, row in (web | others).items():
        total = sum(row)
        shares = [Cell(f"{n:,}", percent(n / total) if total else "") for n in row]
        rows.append([name, f"{total:,}", *shares])
    columns_of_table = ["Documents", *(str(level) for level in range(SCORE_LEVELS))]
    return figure(
        "figure-1",
        panels,
        legend=SCORES,
        tables=[table("Documents by score", ("Corpus",), columns_of_table, rows)],
    )


def _score_panel(rows: Mapping[str, Sequence[int]], title: str) -> Panel:
    stacks = []
    for name, counts in rows.items():
        parts = [(*score, count) for score, count in zip(SCORES, counts, strict=True)]
        stacks.append(Stack(name, parts))
    label = chart_label("Stacked bars", f"documents by safety score, {title.lower()}")
    return Panel(title, stacked([("", stacks)], label, gutter=96.0))


def _hazards(data: ReportData) -> Figure:
    cards, paper = data.inputs.cards, data.paper.card.hazards
    names = hazards(cards)
    ours = [
        Pair(
            readable(name),
            per_million(hazard_counts(cards, data.rephrased_from, name)),
            per_million(hazard_counts(cards, data.rephrased, name)),
        )
        for name in names
    ]
    theirs = [Pair(readable(name), row.score_3, row.rephrased_3) for name, row in paper.items()]
    rows: list[list[Value]] = []
    for corpus, card in cards.items():
        counts = [hazard_counts(cards, [corpus], name) for name in (None, *names)]
        cells = [Cell(_frequency(per_million(pair)), f"{pair[0]:,}") for pair in counts]
        rows.append([readable(corpus), f"{card['words']:,}", *cells])
    paper_rows = []
    for name, row in paper.items():
        values = (row.score_0, row.score_3, row.rephrased_3)
        paper_rows.append([readable(name), *(fixed(value, 2) for value in values)])
    sources = ", ".join(readable(name) for name in data.rephrased_from)
    label = chart_label("Dots", "hazard n-grams per million before and after rephrasing")
    return figure(
        "hazards",
        [
            Panel("Here, per million words", pairs(ours, label)),
            Panel("The paper: score 3, per million tokens", pairs(theirs, label)),
        ],
        legend=[("dot before", "before: raw pages"), ("dot after", "after: rephrased")],
        tables=[
            table(
                "Hazard n-grams per million words (counts below)",
                ("Corpus",),
                ["Words", "All hazards", *map(readable, names)],
                rows,
            ),
            table(
                "The paper: hazard n-grams per million tokens, read by eye",
                ("Hazard",),
                ("Score 0", "Score 3", "Score 3, rephrased"),
                paper_rows,
            ),
        ],
        sources=sources,
    )


def _frequency(value: float | None) -> str:
    return NONE if value is None else f"{value:,.1f}"


def training(data: ReportData) -> Figure | None:
    """Draw the training loss of each model, and list the runs."""
    curves = _curves(data, data.inputs.curves)
    runs = data.inputs.training
    known = set(chain(*runs.values()))
    facts = [fact for fact in RUN_FACTS if fact in known]
    rows = []
    for name, run in runs.items():
        rows.append([name, *(_number(run.get(fact)) for fact in facts)])
    if not curves and not rows:
        return None
    label = "Curves: training loss over tokens, for each model."
    chart = lines(curves, label, x_title="tokens", y_title="loss")
    columns = [readable(fact) for fact in facts]
    return figure(
        "training",
        [Panel("", chart)] if curves else [],
        tables=[table("Training runs", ("Model",), columns, rows)] if rows and facts else [],
    )


def held_out(data: ReportData) -> Figure | None:
    """Draw the loss on rows that no training reads, of the corpus that most models read."""
    by_corpus: dict[str, dict[str, Points]] = {}
    for (model, corpus), points in data.inputs.held_out.items():
        by_corpus.setdefault(corpus, {})[model] = points
    if not by_corpus:
        return None
    most_read = max(by_corpus, key=lambda name: len(by_corpus[name]))
    rows: list[list[Value]] = []
    for corpus, models in by_corpus.items():
        for model, points in models.items():
            rows.append([model, corpus, _number(points[0][1]), _number(points[-1][1])])
    name = readable(most_read)
    label = f"Curves: loss on held-out rows of {name} over tokens."
    curves = _curves(data, by_corpus[most_read])
    return figure(
        "held-out",
        [Panel("", lines(curves, label, x_title="tokens", y_title="loss"))],
        tables=[table("Loss on held-out rows", ("Model", "Corpus"), ("First", "Last"), rows)],
        corpus=name,
    )


def _curves(data: ReportData, points: Mapping[str, Points]) -> list[Curve]:
    """Average the curves of each group; its seeds read about as many tokens in each step."""
    curves = []
    for index, group in enumerate(data.roles.groups):
        members = [points[name] for name in group.models if name in points]
        if members:
            means = []
            for step in zip(*members, strict=False):
                across, upwards = zip(*step, strict=True)
                means.append((fmean(across), fmean(upwards)))
            curves.append(Curve(group.name, STYLES[index % len(STYLES)], means))
    return curves


def _number(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def mixtures(data: ReportData) -> Table | None:
    """List the planned tokens of every part of every mixture."""
    rows = list(chain(*(_planned(name, plan) for name, plan in data.inputs.plans.items())))
    heads = ("Mixture", "Phase", "Part")
    columns = ("Documents", "Rows", "Tokens", "Share of the phase", "Epochs")
    return table("Planned tokens of every part", heads, columns, rows) if rows else None


def _planned(name: str, plan: Json) -> Iterator[list[Value]]:
    for number, phase in enumerate(plan.get("phases", []), 1):
        total = sum(part["tokens"] for part in phase["parts"])
        for part in phase["parts"]:
            corpus = plan.get("corpora", {}).get(part["corpus"], {})
            share = part["tokens"] / total if total else None
            numbers = (corpus.get("documents"), part["rows"], part["tokens"])
            heads = [name, str(number), part["corpus"]]
            yield [*heads, *map(_number, numbers), percent(share), fixed(part["epochs"], 2)]


def ledger(data: ReportData) -> Table | None:
    """List where every row of every source went."""
    rows: list[list[Value]] = []
    for stage, counts in data.inputs.ledgers.items():
        lost = (_reasons(counts.dropped), _reasons(counts.quarantined))
        rows.append([stage, f"{counts.rows_in:,}", f"{counts.rows_out:,}", *lost])
    columns = ("Rows in", "Rows out", "Dropped (by filter)", "Quarantined (by reason)")
    caption = "Rows in = rows out + dropped + quarantined"
    return table(caption, ("Stage",), columns, rows) if rows else None


def _reasons(counts: Mapping[str, int]) -> Cell:
    lines_ = (f"{readable(name)} {count:,}" for name, count in counts.items())
    return Cell(f"{sum(counts.values()):,}", "\n".join(lines_))
