"""Figures of data and training: the report card (Figure 1), curves, and mixtures."""

from collections.abc import Iterable, Mapping
from itertools import chain, cycle
from typing import Any

import polars as pl

from safelm.report.charts.numbers import NONE, readable
from safelm.report.charts.svg import Curve, draw
from safelm.report.data import ReportData
from safelm.report.draw import curve_panel, stack_panel
from safelm.report.layout import (
    STYLES,
    Cell,
    Figure,
    Panel,
    Row,
    chart_label,
    figure,
    layout_of,
    name_of,
    share_cell,
    table,
)
from specs.spec import SCORE_LEVELS

SCORES = [(f"r{level}", f"score {level}") for level in range(SCORE_LEVELS)]
RUN_FACTS = ("parameters", "tokens", "steps", "loss", "final_loss")  # of train.json


def scores(data: ReportData) -> Figure:
    """Draw Figure 1: documents of every corpus by their score."""
    empty = [0] * SCORE_LEVELS
    counts = {name: card.get("scores") or empty for name, card in data.cards.items()}
    scored = {readable(name): counts[name] for name in data.scored if name in counts}
    whole = [sum(column) for column in zip(*scored.values(), strict=True)]
    web = {"the whole web": whole} if scored else {}
    web |= {"the paper": list(data.paper.card.documents), **scored}
    others = {readable(name): row for name, row in counts.items() if name not in data.scored}
    panels = {"the scored web": web, "written and other corpora": others}
    rows: list[Row] = []
    for name, row in (web | others).items():
        total = sum(row)
        shares = [share_cell(count, total) for count in row]
        rows.append({"corpus": name, "documents": total, **dict(enumerate(shares))})
    return figure(
        "figure-1",
        [stack_panel(f"Documents by score: {name}", part, SCORES) for name, part in panels.items()],
        [table("figure-1", rows)],
        legend=SCORES,
    )


def hazards(data: ReportData) -> Figure:
    """Draw hazard n-grams before and after rephrasing, beside the paper's (Figure 1)."""
    cards, paper = data.cards, data.paper.card.hazards
    counted = [card["hazards"] for card in cards.values()]
    names = {name: readable(name) for name in chain(*counted)}
    ours = []
    for name, title in names.items():
        counts = [hazard_counts(cards, corpora, name) for corpora in data.rewritten]
        ours.append((title, tuple(_per_million(*pair) for pair in counts)))
    theirs = [(readable(name), (row.score_3, row.rephrased_3)) for name, row in paper.items()]
    charts = {"Here, per million words": ours, "The paper: score 3, per million tokens": theirs}
    label = chart_label("dots", "hazard n-grams per million before and after rephrasing")
    panels = [Panel(title, draw("pairs", pairs, label, 144.0)) for title, pairs in charts.items()]
    rows: list[Row] = []
    for corpus, card in cards.items():
        row: dict[str | None, Any] = {"corpus": readable(corpus), "words": card["words"]}
        for hazard in (None, *names):
            count, words = hazard_counts(cards, [corpus], hazard)
            frequency = _per_million(count, words)
            row[hazard] = Cell(NONE if frequency is None else f"{frequency:,.1f}", f"{count:,}")
        rows.append(row)
    columns = {"words": "Words", None: "All hazards"} | names
    paper_rows = [{"hazard": readable(name), **dict(row)} for name, row in paper.items()]
    tables = [table("hazards", rows, columns), table("hazards-paper", paper_rows)]
    return figure("hazards", panels, tables, sources=", ".join(map(readable, data.rewritten[0])))


def hazard_counts(
    cards: Mapping[str, Any], corpora: Iterable[str], hazard: str | None = None
) -> tuple[int, int]:
    """Count hazard n-grams and words of some corpora together; of one hazard, or of all."""
    count = words = 0
    for card in (cards[name] for name in corpora if name in cards):
        words += card["words"]
        rows = card["hazards"].items()
        count += sum(row["count"] for name, row in rows if hazard in (None, name))
    return count, words


def _per_million(count: int, words: int) -> float | None:
    return count / words * 1e6 if words else None


def training(data: ReportData) -> Figure:
    """Draw the training loss of each model, and list the runs."""
    runs = data.training
    # Other trainers write other facts.
    known = set(chain(*runs.values()))
    facts = {fact: readable(fact) for fact in RUN_FACTS if fact in known}
    rows = [{"model": name, **run} for name, run in runs.items() if facts]
    panels = _losses(data, "training", data.curves)
    return figure("training", panels, [table("training", rows, facts)])


def held_out(data: ReportData) -> Figure:
    """Draw the loss on rows that no training reads, of the corpus that most models read."""
    losses = data.held_out
    corpora = losses.partition_by("corpus", maintain_order=True)
    most_read = max(corpora, key=lambda part: part["model"].n_unique(), default=losses)
    name = "".join(readable(name) for name in most_read["corpus"].head(1))
    ends = (pl.first("loss").alias("first"), pl.last("loss").alias("last"))
    rows: list[Row] = []
    for part in corpora:
        rows += part.group_by("model", "corpus", maintain_order=True).agg(ends).to_dicts()
    panels = _losses(data, "held-out", most_read, corpus=name)
    return figure("held-out", panels, [table("held-out", rows)], corpus=name)


def _losses(data: ReportData, name: str, losses: pl.DataFrame, **words: str) -> list[Panel]:
    """Draw curves of the groups; the seeds of a group, which read as many tokens, are averaged."""
    # Seeds are matched by the number of the point in their curve.
    losses = losses.with_columns(step=pl.int_range(pl.len()).over("model"))
    curves = []
    for group, style in zip(data.roles.groups, cycle(STYLES), strict=False):
        seeds = losses.filter(pl.col("model").is_in(group.models))
        means = seeds.group_by("step", maintain_order=True).agg(pl.mean("tokens", "loss"))
        curves.append(Curve(group.name, style, means.select("tokens", "loss").rows()))
    return [] if losses.is_empty() else [curve_panel(layout_of(name, **words), curves)]


def models(data: ReportData) -> Figure:
    """List every model, and what it is compared as."""
    rows = []
    for group in data.roles.groups:
        row = {
            "mixture": group.mixture,
            "shape": group.shape,
            "step": name_of("step", group.step) if group.step else "not in the ablation",
            "part": data.roles.part(group.name),
            "has_tags": "yes" if group.has_tags else "no",
        }
        rows += [{"model": model, **row} for model in group.models]
    return figure("models-table", tables=[table("models", rows)])


def mixtures(data: ReportData) -> Figure:
    """List the planned tokens of every part of every mixture."""
    rows: list[Row] = []
    for group in data.roles.groups:
        # Its models differ in their seed alone, so they have one plan.
        plan = data.plans.get(group.models[0], {})
        for number, phase in enumerate(plan.get("phases", []), 1):
            total = sum(part["tokens"] for part in phase["parts"])
            for part in phase["parts"]:
                corpus = plan.get("corpora", {}).get(part["corpus"], {})
                share = part["tokens"] / total if total else None
                row = {"mixture": group.name, "phase": str(number), "share": share}
                row |= {"documents": corpus.get("documents"), "epochs": float(part["epochs"])}
                rows.append({**part, **row})
    return figure("mixtures-table", tables=[table("mixtures", rows)])
