"""Figures of data and training: the report card (Figure 1), curves, mixtures and the ledger."""

from collections.abc import Iterable, Mapping
from itertools import chain, cycle
from typing import Any

import polars as pl

from safelm.report.charts.numbers import NONE, percent, readable
from safelm.report.charts.svg import Curve, draw
from safelm.report.data import ReportData
from safelm.report.draw import curve_panel, stack_panel
from safelm.report.figures.makers import reasons
from safelm.report.layout import (
    STYLES,
    Cell,
    Figure,
    Panel,
    Row,
    chart_label,
    figure,
    layout_of,
    table,
)
from safelm.report.roles import STEPS
from specs.spec import SCORE_LEVELS

SCORES = [(f"r{level}", f"score {level}") for level in range(SCORE_LEVELS)]
RUN_FACTS = ("parameters", "tokens", "steps", "loss", "final_loss")  # of train.json


def scores(data: ReportData) -> Figure:
    """Draw Figure 1: documents of every corpus by their score."""
    if not data.inputs.cards:
        return figure("figure-1")
    empty = [0] * SCORE_LEVELS
    counts = {name: card.get("scores") or empty for name, card in data.inputs.cards.items()}
    scored = {readable(name): counts[name] for name in data.scored if name in counts}
    whole = [sum(column) for column in zip(*scored.values(), strict=True)]
    web = {"the whole web": whole} if scored else {}
    web |= {"the paper": list(data.paper.card.documents), **scored}
    others = {readable(name): row for name, row in counts.items() if name not in data.scored}
    panels = {"the scored web": web, "written and other corpora": others}
    rows: list[Row] = []
    for name, row in (web | others).items():
        total = sum(row)
        shares = [Cell(f"{n:,}", percent(n / total) if total else "") for n in row]
        rows.append({"corpus": name, "documents": total, **dict(enumerate(shares))})
    return figure(
        "figure-1",
        [stack_panel(f"Documents by score: {name}", part, SCORES) for name, part in panels.items()],
        [table("figure-1", rows)],
        legend=SCORES,
    )


def hazards(data: ReportData) -> Figure:
    """Draw hazard n-grams before and after rephrasing, beside the paper's (Figure 1)."""
    cards, paper = data.inputs.cards, data.paper.card.hazards
    if not cards:
        return figure("hazards", sources="")
    names = dict.fromkeys(chain(*(card["hazards"] for card in cards.values())))
    ours = []
    for name in names:
        sides = (hazard_counts(cards, corpora, name) for corpora in data.rewritten)
        pair = (count / words * 1e6 if words else None for count, words in sides)
        ours.append((readable(name), tuple(pair)))
    theirs = [(readable(name), (row.score_3, row.rephrased_3)) for name, row in paper.items()]
    rows: list[Row] = []
    for corpus, card in cards.items():
        row: dict[str | None, Any] = {"corpus": readable(corpus), "words": card["words"]}
        for hazard in (None, *names):
            count, words = hazard_counts(cards, [corpus], hazard)
            frequency = f"{count / words * 1e6:,.1f}" if words else NONE
            row[hazard] = Cell(frequency, f"{count:,}")
        rows.append(row)
    columns = {"words": "Words", None: "All hazards"} | {name: readable(name) for name in names}
    paper_rows = [{"hazard": readable(name), **row.model_dump()} for name, row in paper.items()]
    label = chart_label("dots", "hazard n-grams per million before and after rephrasing")
    return figure(
        "hazards",
        [
            Panel("Here, per million words", draw("pairs", ours, label, 144.0)),
            Panel("The paper: score 3, per million tokens", draw("pairs", theirs, label, 144.0)),
        ],
        [table("hazards", rows, columns), table("hazards-paper", paper_rows)],
        sources=", ".join(readable(name) for name in data.rewritten[0]),
    )


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


def training(data: ReportData) -> Figure:
    """Draw the training loss of each model, and list the runs."""
    runs = data.inputs.training
    # Other trainers write other facts.
    known = set(chain(*runs.values()))
    facts = {fact: readable(fact) for fact in RUN_FACTS if fact in known}
    rows = [{"model": name, **run} for name, run in runs.items() if facts]
    return figure(
        "training", _losses(data, "training", data.inputs.curves), [table("training", rows, facts)]
    )


def held_out(data: ReportData) -> Figure:
    """Draw the loss on rows that no training reads, of the corpus that most models read."""
    losses = data.inputs.held_out
    corpora = losses.partition_by("corpus", maintain_order=True)
    most_read = max(corpora, key=lambda part: part["model"].n_unique(), default=losses)
    name = "".join(readable(name) for name in most_read["corpus"].head(1))
    ends = (pl.first("loss").alias("first"), pl.last("loss").alias("last"))
    rows: list[Row] = []
    for part in corpora:
        rows += part.group_by("model", "corpus", maintain_order=True).agg(ends).to_dicts()
    panels = _losses(data, "held-out", most_read, corpus=name)
    return figure("held-out", panels, [table("held-out", rows)], corpus=name)


def _losses(data: ReportData, id: str, losses: pl.DataFrame, **words: str) -> list[Panel]:
    """Draw curves of the groups; the seeds of a group, which read as many tokens, are averaged."""
    losses = losses.with_columns(step=pl.int_range(pl.len()).over("model"))
    curves = []
    for group, style in zip(data.roles.groups, cycle(STYLES), strict=False):
        seeds = losses.filter(pl.col("model").is_in(group.models))
        means = seeds.group_by("step", maintain_order=True).agg(pl.mean("tokens", "loss"))
        curves.append(Curve(group.name, style, means.select("tokens", "loss").rows()))
    return [] if losses.is_empty() else [curve_panel(layout_of(id, **words), curves)]


def models(data: ReportData) -> Figure:
    """List every model, and what it is compared as."""
    rows = []
    for group in data.roles.groups:
        row = {
            "mixture": group.mixture,
            "shape": group.shape,
            "step": STEPS[group.step] if group.step else "not in the ablation",
            "part": data.roles.part(group.name),
            "has_tags": "yes" if group.has_tags else "no",
        }
        rows += [{"model": model, **row} for model in group.models]
    return figure("models-table", tables=[table("models", rows)])


def mixtures(data: ReportData) -> Figure:
    """List the planned tokens of every part of every mixture."""
    rows: list[Row] = []
    for name, plan in data.inputs.plans.items():
        for number, phase in enumerate(plan.get("phases", []), 1):
            total = sum(part["tokens"] for part in phase["parts"])
            for part in phase["parts"]:
                corpus = plan.get("corpora", {}).get(part["corpus"], {})
                share = part["tokens"] / total if total else None
                row = {"mixture": name, "phase": str(number), "share": share}
                row |= {"documents": corpus.get("documents"), "epochs": float(part["epochs"])}
                rows.append({**part, **row})
    return figure("mixtures-table", tables=[table("mixtures", rows)])


def ledger(data: ReportData) -> Figure:
    """List where every row of every source went."""
    rows: list[Row] = []
    for stage, counts in data.inputs.ledgers.items():
        lost = {"dropped": reasons(counts.dropped), "quarantined": reasons(counts.quarantined)}
        rows.append({"stage": stage, "in": counts.rows_in, "out": counts.rows_out, **lost})
    return figure("ledger-table", tables=[table("ledger", rows)])
