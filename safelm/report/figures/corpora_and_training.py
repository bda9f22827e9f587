"""Figures of the data: the report card (Figure 1), the scorer (Figure 5), training, the mixtures
and the ledger.
"""

from collections.abc import Iterator, Mapping, Sequence
from statistics import fmean
from typing import Any

from safelm.report.charts.bars import Pair, Stack, pairs, stacked
from safelm.report.charts.heatmap import Square, heat_map
from safelm.report.charts.numbers import NONE, percent, plain
from safelm.report.charts.xy import Curve, lines
from safelm.report.evidence import (
    false_alarms,
    hazard_counts,
    hazards,
    histogram,
    macro_f1,
    matrices,
    per_million,
    recall,
)
from safelm.report.figure import STYLES, Book, Cell, Figure, Panel, Table, rate_cell
from specs.corpus import ScoredCorpus
from specs.spec import SCORE_LEVELS

LEVELS = range(SCORE_LEVELS)
SCORES = [(f"r{level}", f"score {level}") for level in LEVELS]
WHOLE_WEB = "the whole web"


def report_card(book: Book) -> list[Figure]:
    """Figure 1: scores and hazard n-grams of every corpus, before and after rephrasing."""
    return [_scores(book), _hazards(book)] if book.inputs.cards else []


def _scores(book: Book) -> Figure:
    cards = book.inputs.cards
    scored = [
        name
        for name, row in book.corpora.items()
        if isinstance(row, ScoredCorpus) and name in cards
    ]
    web = {plain(name): histogram(cards[name]) for name in scored}
    rows = {WHOLE_WEB: [sum(column) for column in zip(*web.values(), strict=True)]} if web else {}
    rows |= {"the paper": list(book.paper.card.documents), **web}
    others = {plain(name): histogram(card) for name, card in cards.items() if name not in scored}

    def drawn(rows: Mapping[str, Sequence[int]], what: str) -> Panel:
        stacks = [
            Stack(name, tuple((*SCORES[k], counts[k]) for k in LEVELS))
            for name, counts in rows.items()
        ]
        label = f"Stacked bars: documents by safety score, {what.lower()}; the numbers are in the table below."
        return Panel(what, stacked([("", stacks)], label, gutter=96.0))

    panels = [drawn(rows, "The scored web")] + (
        [drawn(others, "Written and other corpora")] if others else []
    )
    table = [
        [Cell(name), Cell(f"{sum(counts):,}"), *(_counted(count, sum(counts)) for count in counts)]
        for name, counts in {**rows, **others}.items()
    ]
    return Figure(
        "figure-1",
        "Data Safety Report Card: scores (Figure 1 of the paper)",
        "Documents of each corpus by safety score, 0 harmless to 5 harmful. The paper's row is its sample of "
        "FineWeb, read from a chart. Synthetic corpora are graded by the same scorers, after writing.",
        panels,
        SCORES,
        tables=[
            Table(
                "Documents by score",
                ["Corpus", "Documents", *(str(level) for level in LEVELS)],
                table,
            ),
        ],
    )


def _counted(count: int, of: int) -> Cell:
    return Cell(f"{count:,}", percent(count / of) if of else "")


def _hazards(book: Book) -> Figure:
    cards, names = book.inputs.cards, hazards(book.inputs.cards)
    both = [
        Pair(
            plain(name),
            per_million(hazard_counts(cards, book.sources, name)),
            per_million(hazard_counts(cards, book.rephrased, name)),
        )
        for name in names
    ]
    paper = [
        Pair(plain(name), row.score_3, row.rephrased_3)
        for name, row in book.paper.card.hazards.items()
    ]
    label = "Dots: hazard n-grams per million words before and after rephrasing; the numbers are in the table below."
    rows = [
        [
            Cell(plain(corpus)),
            Cell(f"{card['words']:,}"),
            *(_frequency(hazard_counts(cards, [corpus], name)) for name in [None, *names]),
        ]
        for corpus, card in cards.items()
    ]
    theirs = [
        [
            Cell(plain(name)),
            *(Cell(f"{value:.2f}") for value in (row.score_0, row.score_3, row.rephrased_3)),
        ]
        for name, row in book.paper.card.hazards.items()
    ]
    return Figure(
        "hazards",
        "Data Safety Report Card: hazard n-grams before and after",
        "How often the n-grams of each hazard stand in the pages that were rephrased "
        f"({', '.join(map(plain, book.sources))}) and in the text written from them, per million words. The paper "
        "counts per million tokens of FineWeb, with other lists.",
        [
            Panel("Here, per million words", pairs(both, label)),
            Panel("The paper: score 3, per million tokens", pairs(paper, label)),
        ],
        [("dot before", "before: raw pages"), ("dot after", "after: rephrased")],
        tables=[
            Table(
                "Hazard n-grams per million words (counts below)",
                ["Corpus", "Words", "All hazards", *map(plain, names)],
                rows,
            ),
            Table(
                "The paper: hazard n-grams per million tokens, read by eye",
                ["Hazard", "Score 0", "Score 3", "Score 3, rephrased"],
                theirs,
            ),
        ],
    )


def _frequency(counts: tuple[int, int]) -> Cell:
    value = per_million(counts)
    return Cell(NONE if value is None else f"{value:,.1f}", f"{counts[0]:,}")


def classifier(book: Book) -> Figure:
    """Figure 5: the confusion matrix of the scorer beside the paper's."""
    ours = {_scorer(name): matrix for name, matrix in matrices(book.inputs.fit)}
    paper = {
        f"the paper's {name}": matrix for name, matrix in book.paper.classifier.matrices.items()
    }
    columns = [str(level) for level in LEVELS]
    panels = [
        Panel(
            name,
            heat_map(
                [(f"true {level}", _row(matrix[level], level)) for level in LEVELS],
                columns,
                f"Grid: confusion matrix of {name}; the numbers are in the table below.",
                gutter=52.0,
                column_title="predicted score",
            ),
        )
        for name, matrix in {**ours, **paper}.items()
        if sum(map(sum, matrix))
    ]
    rows = [
        [
            Cell(name),
            *(rate_cell(recall(matrix, level, book.confidence)) for level in (1, 3)),
            rate_cell(false_alarms(matrix, book.confidence)),
            _three(macro_f1(matrix)),
        ]
        for name, matrix in {**ours, **paper}.items()
    ]
    rows += [
        [
            Cell(f"the paper's table: {name}"),
            Cell(percent(row.recall_1)),
            Cell(percent(row.recall_3)),
            Cell(NONE),
            _three(row.macro_f1),
        ]
        for name, row in book.paper.classifier.table.items()
        if name not in book.paper.classifier.matrices
    ]
    note = (book.inputs.fit or {}).get("note")
    grids = [
        Table(
            f"Confusion matrix: {name}",
            ["True score", *(f"predicted {level}" for level in LEVELS)],
            [
                [Cell(str(level)), *(Cell(f"{count:,}") for count in matrix[level])]
                for level in LEVELS
            ],
        )
        for name, matrix in {**ours, **paper}.items()
    ]
    return Figure(
        "figure-5",
        "The scorer on held-out pages (Figure 5 and Table 3 of the paper)",
        (f"{note} " if note else "")
        + "Counts of held-out pages; shade is the share of its row, so a good scorer is dark on the diagonal. "
        "Recall@k is the share of pages truly at k or above that are predicted at k or above.",
        panels,
        tables=[
            Table(
                "The scorer", ["Scorer", "Recall@1", "Recall@3", "False alarms", "Macro-F1"], rows
            ),
            *grids,
        ],
    )


def _scorer(name: str) -> str:
    """`ngrams (known)` in words: what is measured, and against which labels."""
    column, known, _ = name.partition(" (known")
    return f"here: {plain(column)}, against {'labels of the source' if known else 'the judge'}"


def _row(counts: Sequence[int], level: int) -> list[Square]:
    of = sum(counts)
    return [
        Square(
            f"{count:,}",
            count / of if of else None,
            f"true {level}, predicted {place}: {count:,} of {of:,}",
        )
        for place, count in enumerate(counts)
    ]


def _three(value: float | None) -> Cell:
    return Cell(NONE if value is None else f"{value:.3f}")


def training(book: Book) -> Figure | None:
    """Training curves and what each run was."""
    drawn = _curves(book, book.inputs.curves)
    wanted = ("parameters", "tokens", "steps", "loss", "final_loss")
    found = [
        key for key in wanted if any(key in values for values in book.inputs.training.values())
    ]
    rows = [
        [Cell(name), *(_number(values.get(key)) for key in found)]
        for name, values in book.inputs.training.items()
    ]
    if not drawn and not rows:
        return None
    label = "Curves: training loss over tokens, for each model."
    return Figure(
        "training",
        "Training loss",
        "Training loss of each model over the tokens it read. A model's loss depends on what it reads: curves of "
        "different mixtures say how hard the mixture is, not how good the model.",
        [Panel("", lines(drawn, label, x_title="tokens", y_title="loss"))] if drawn else [],
        tables=[Table("Training runs", ["Model", *map(plain, found)], rows)]
        if rows and found
        else [],
    )


def held_out(book: Book) -> Figure | None:
    """The loss on rows that no training reads, of the corpus that most models read."""
    by_corpus: dict[str, dict[str, list[tuple[float, float]]]] = {}
    for name, points in book.inputs.held_out.items():
        model, _, corpus = name.partition(", ")
        by_corpus.setdefault(corpus, {})[model] = points
    if not by_corpus:
        return None
    corpus = max(by_corpus, key=lambda name: len(by_corpus[name]))
    rows = [
        [Cell(model), Cell(corpus), _number(points[0][1]), _number(points[-1][1])]
        for corpus, found in by_corpus.items()
        for model, points in found.items()
    ]
    label = f"Curves: loss on held-out rows of {plain(corpus)} over tokens."
    return Figure(
        "held-out",
        f"Loss on held-out rows of {plain(corpus)}",
        "Rows of the corpus that most models read, kept from all of them; so these curves, unlike the training loss, "
        "compare models on the same text. The table has every corpus.",
        [
            Panel(
                "", lines(_curves(book, by_corpus[corpus]), label, x_title="tokens", y_title="loss")
            )
        ],
        tables=[
            Table("Loss on held-out rows", ["Model", "Corpus", "First", "Last"], rows, heads=2)
        ],
    )


def _curves(book: Book, points: Mapping[str, Sequence[tuple[float, float]]]) -> list[Curve]:
    """A curve for each group of models: the mean of its seeds, which read about as many tokens in
    each step.
    """
    found = []
    for place, group in enumerate(book.measured.roles.groups):
        members = [points[name] for name in group.models if name in points]
        if members:
            steps = zip(*members, strict=False)
            mean = [
                (fmean(at for at, _ in step), fmean(value for _, value in step)) for step in steps
            ]
            found.append(Curve(group.name, STYLES[place % len(STYLES)], mean))
    return found


def _number(value: Any) -> Cell:
    if value is None or isinstance(value, bool | str | list | dict):
        return Cell(NONE if value is None else str(value))
    return Cell(f"{value:,}" if isinstance(value, int) else f"{value:.4g}")


def mixtures(book: Book) -> Table | None:
    """The planned tokens of every part of every mixture."""
    rows = [row for name, plan in book.inputs.plans.items() for row in _planned(name, plan)]
    head = [
        "Mixture",
        "Phase",
        "Part",
        "Documents",
        "Rows",
        "Tokens",
        "Share of the phase",
        "Epochs",
    ]
    return Table("Planned tokens of every part", head, rows, heads=3) if rows else None


def _planned(name: str, plan: Mapping[str, Any]) -> Iterator[list[Cell]]:
    for place, phase in enumerate(plan.get("phases", []), 1):
        total = sum(part["tokens"] for part in phase["parts"])
        for part in phase["parts"]:
            documents = plan.get("corpora", {}).get(part["corpus"], {}).get("documents")
            yield [
                Cell(name),
                Cell(str(place)),
                Cell(part["corpus"]),
                _number(documents),
                _number(part["rows"]),
                _number(part["tokens"]),
                Cell(percent(part["tokens"] / total if total else None)),
                Cell(f"{part['epochs']:.2f}"),
            ]


def ledger(book: Book) -> Table | None:
    """Where every row of every source went."""
    rows = []
    for stage, found in book.inputs.ledgers.items():
        lost = (_reasons(found.dropped), _reasons(found.quarantined))
        rows.append([Cell(stage), Cell(f"{found.rows_in:,}"), Cell(f"{found.rows_out:,}"), *lost])
    head = ["Stage", "Rows in", "Rows out", "Dropped (by filter)", "Quarantined (by reason)"]
    return Table("Rows in = rows out + dropped + quarantined", head, rows) if rows else None


def _reasons(counts: Mapping[str, int]) -> Cell:
    lines = (f"{plain(name)} {count:,}" for name, count in counts.items())
    return Cell(f"{sum(counts.values()):,}", "\n".join(lines))
