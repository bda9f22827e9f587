"""Figures of data and training: the report card (Figure 1), curves, mixtures and the ledger."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, cycle
from statistics import fmean
from typing import Any

from safelm.report.charts.bars import Pair, Stack, pairs
from safelm.report.charts.numbers import NONE, percent, readable
from safelm.report.charts.xy import Curve
from safelm.report.data import ReportData
from safelm.report.draw import curve_panel, stack_panel
from safelm.report.inputs import Points
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
from specs.corpus import ScoredCorpus
from specs.spec import SCORE_LEVELS

SCORES = [(f"r{level}", f"score {level}") for level in range(SCORE_LEVELS)]
RUN_FACTS = ("parameters", "tokens", "steps", "loss", "final_loss")  # of train.json


def report_card(data: ReportData) -> list[Figure]:
    """Draw Figure 1: scores and hazard n-grams of every corpus, before and after rephrasing."""
    return [_scores(data), _hazards(data)] if data.inputs.cards else []


def _scores(data: ReportData) -> Figure:
    empty = [0] * SCORE_LEVELS
    counts = {name: card.get("scores") or empty for name, card in data.inputs.cards.items()}
    corpora = data.declared.corpora.items()
    scored = [name for name, row in corpora if isinstance(row, ScoredCorpus) and name in counts]
    web = {}
    if scored:
        columns = zip(*(counts[name] for name in scored), strict=True)
        web["the whole web"] = [sum(column) for column in columns]
    web["the paper"] = list(data.paper.card.documents)
    web |= {readable(name): counts[name] for name in scored}
    others = {readable(name): row for name, row in counts.items() if name not in scored}
    panels = [stack_panel("Documents by score: the scored web", _stacks(web))]
    if others:
        title = "Documents by score: written and other corpora"
        panels.append(stack_panel(title, _stacks(others)))
    rows: list[Row] = []
    for name, row in (web | others).items():
        total = sum(row)
        shares = [Cell(f"{n:,}", percent(n / total) if total else "") for n in row]
        rows.append({"corpus": name, "documents": total, **dict(enumerate(shares))})
    return figure("figure-1", panels, [table("figure-1", rows)], legend=SCORES)


def _stacks(corpora: Mapping[str, Sequence[int]]) -> list[Stack]:
    stacks = []
    for name, counts in corpora.items():
        parts = [(*score, count) for score, count in zip(SCORES, counts, strict=True)]
        stacks.append(Stack(name, parts))
    return stacks


def _hazards(data: ReportData) -> Figure:
    cards, paper = data.inputs.cards, data.paper.card.hazards
    names = hazards(cards)
    ours = []
    for name in names:
        sides = [
            per_million(hazard_counts(cards, corpora, name))
            for corpora in (data.rephrased_from, data.rephrased)
        ]
        ours.append(Pair(readable(name), *sides))
    theirs = [Pair(readable(name), row.score_3, row.rephrased_3) for name, row in paper.items()]
    rows: list[Row] = []
    for corpus, card in cards.items():
        row: dict[str | None, Any] = {"corpus": readable(corpus), "words": card["words"]}
        for hazard in (None, *names):
            counts = hazard_counts(cards, [corpus], hazard)
            frequency = per_million(counts)
            text = NONE if frequency is None else f"{frequency:,.1f}"
            row[hazard] = Cell(text, f"{counts[0]:,}")
        rows.append(row)
    columns = {"words": "Words", None: "All hazards"} | {name: readable(name) for name in names}
    paper_rows = [{"hazard": readable(name), **row.model_dump()} for name, row in paper.items()]
    label = chart_label("dots", "hazard n-grams per million before and after rephrasing")
    return figure(
        "hazards",
        [
            Panel("Here, per million words", pairs(ours, label)),
            Panel("The paper: score 3, per million tokens", pairs(theirs, label)),
        ],
        [table("hazards", rows, columns), table("hazards-paper", paper_rows)],
        sources=", ".join(readable(name) for name in data.rephrased_from),
    )


def training(data: ReportData) -> Figure:
    """Draw the training loss of each model, and list the runs."""
    runs = data.inputs.training
    # Other trainers write other facts.
    known = set(chain(*runs.values()))
    facts = {fact: readable(fact) for fact in RUN_FACTS if fact in known}
    rows = [{"model": name, **run} for name, run in runs.items()]
    panels = _loss_panel(data, "training", data.inputs.curves)
    return figure("training", panels, [table("training", rows, facts)] if facts else [])


def held_out(data: ReportData) -> Figure:
    """Draw the loss on rows that no training reads, of the corpus that most models read."""
    by_corpus: dict[str, dict[str, Points]] = {}
    for (model, corpus), points in data.inputs.held_out.items():
        by_corpus.setdefault(corpus, {})[model] = points
    most_read = max(by_corpus, key=lambda name: len(by_corpus[name]), default="")
    rows: list[Row] = []
    for corpus, models in by_corpus.items():
        for model, points in models.items():
            (_, first), *_, (_, last) = points
            rows.append({"model": model, "corpus": corpus, "first": first, "last": last})
    name = readable(most_read)
    panels = _loss_panel(data, "held-out", by_corpus.get(most_read, {}), corpus=name)
    return figure("held-out", panels, [table("held-out", rows)], corpus=name)


def _loss_panel(
    data: ReportData, id: str, points: Mapping[str, Points], **words: str
) -> list[Panel]:
    """Draw curves of the groups; the seeds of a group, which read as many tokens, are averaged."""
    layout = layout_of(id, **words)
    curves = []
    for group, style in zip(data.roles.groups, cycle(STYLES), strict=False):
        members = [points[name] for name in group.models if name in points]
        means = []
        for step in zip(*members, strict=False):
            across, upwards = zip(*step, strict=True)
            means.append((fmean(across), fmean(upwards)))
        curves.append(Curve(group.name, style, means))
    return [curve_panel(layout, curves)] if any(points.values()) else []


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
    return figure("mixtures-table", tables=[table("mixtures", _planned(data))])


def _planned(data: ReportData) -> Iterator[Row]:
    for name, plan in data.inputs.plans.items():
        for number, phase in enumerate(plan.get("phases", []), 1):
            total = sum(part["tokens"] for part in phase["parts"])
            for part in phase["parts"]:
                corpus = plan.get("corpora", {}).get(part["corpus"], {})
                yield {
                    "mixture": name,
                    "phase": str(number),
                    "part": part["corpus"],
                    "documents": corpus.get("documents"),
                    "rows": part["rows"],
                    "tokens": part["tokens"],
                    "share": part["tokens"] / total if total else None,
                    "epochs": float(part["epochs"]),
                }


def ledger(data: ReportData) -> Figure:
    """List where every row of every source went."""
    rows: list[Row] = []
    for stage, counts in data.inputs.ledgers.items():
        lost = {"dropped": _reasons(counts.dropped), "quarantined": _reasons(counts.quarantined)}
        rows.append({"stage": stage, "in": counts.rows_in, "out": counts.rows_out, **lost})
    return figure("ledger-table", tables=[table("ledger", rows)])


def _reasons(counts: Mapping[str, int]) -> Cell:
    lines_ = (f"{readable(name)} {count:,}" for name, count in counts.items())
    return Cell(f"{sum(counts.values()):,}", "\n".join(lines_))


def hazard_counts(
    cards: Mapping[str, Any], corpora: Iterable[str], hazard: str | None = None
) -> tuple[int, int]:
    """Count hazard n-grams and words of some corpora together; of one hazard, or of all."""
    chosen = [cards[name] for name in corpora if name in cards]
    count = 0
    for card in chosen:
        rows = card["hazards"].items()
        count += sum(row["count"] for name, row in rows if hazard in (None, name))
    return count, sum(card["words"] for card in chosen)


def hazards(cards: Mapping[str, Any]) -> list[str]:
    """Return the hazards of all cards, in their order."""
    return list(dict.fromkeys(chain(*(card["hazards"] for card in cards.values()))))


def per_million(counts: tuple[int, int]) -> float | None:
    """Return a count per million words; None without words."""
    count, words = counts
    return count / words * 1e6 if words else None
