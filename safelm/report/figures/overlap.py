"""Prompts that stand in the training text, and how models answer them apart from the others."""

from collections import Counter
from collections.abc import Mapping

from safelm.report.charts.numbers import plain
from safelm.report.figure import STAGE_NAMES, Book, Cell, Figure, Table, rate_cell
from safelm.report.figures.differences import EVENTS, KINDS
from safelm.report.figures.public_benchmarks import asked
from safelm.stats.rates import rate

SIDES = {"found": ("exact", "near"), "not found": ("none",)}


def figure(book: Book) -> Figure | None:
    """How many prompts of each suite were found; of the suites of which some were, every rate in
    two parts.
    """
    overlap = book.inputs.overlap
    suites = list(dict.fromkeys(suite for suite, _ in overlap))
    if not suites:
        return None
    counts = {
        name: Counter(kind for (suite, _), kind in overlap.items() if suite == name)
        for name in suites
    }
    rows = [
        [
            Cell(plain(name)),
            Cell(f"{count.total():,}"),
            *(Cell(f"{count[kind]:,}") for kind in ("exact", "near")),
        ]
        for name, count in counts.items()
    ]
    total = sum(count["exact"] + count["near"] for count in counts.values())
    apart = [_apart(book, name) for name, count in counts.items() if count["exact"] + count["near"]]
    return Figure(
        "overlap",
        "Prompts in the training text",
        f"{total:,} of {len(overlap):,} prompts stand in the text that models are made of: word for word, or one "
        "document holds most of their n-grams. An answer to such a prompt may be memory. The other figures count all "
        "prompts; the tables below count both kinds apart.",
        tables=[
            Table(
                "Prompts found in the training text", ["Suite", "Prompts", "Exact", "Near"], rows
            ),
            *apart,
        ],
    )


def _apart(book: Book, suite: str) -> Table:
    """Every rate of a suite, of the prompts that were found and of those that were not."""
    kind = asked(book).get(suite, {}).get("kind", "harmful")
    rows = [
        [
            Cell(model),
            Cell(STAGE_NAMES[stage]),
            Cell(plain(decoder)),
            *_rates(book, suite, kind, outcomes),
        ]
        for (model, stage, decoder, other), outcomes in book.inputs.outcomes.items()
        if other == suite
    ]
    head = [f"{EVENTS[event][0].capitalize()}, {side}" for event in KINDS[kind] for side in SIDES]
    return Table(
        f"The suite {plain(suite)} in two parts",
        ["Model", "Stage", "Decoder", *head],
        rows,
        heads=3,
    )


def _rates(book: Book, suite: str, kind: str, outcomes: Mapping[str, str]) -> list[Cell]:
    cells = []
    overlap = book.inputs.overlap
    for event in KINDS[kind]:
        for kinds in SIDES.values():
            part = [
                outcome
                for prompt, outcome in outcomes.items()
                if overlap.get((suite, prompt)) in kinds
            ]
            count = sum(outcome in EVENTS[event][1] for outcome in part)
            cells.append(rate_cell(rate(count, len(part), book.confidence)))
    return cells
