"""Figures of the suites beside the embedded world's: public benchmarks, each with who judged its
answers.
"""

from collections.abc import Mapping
from typing import Any

from safelm.report.charts.bars import Bar, bars
from safelm.report.charts.numbers import plain
from safelm.report.figure import STAGE_NAMES, Book, Cell, Figure, Panel, Table, rate_cell
from safelm.report.figures.attack_success import over_refusal
from safelm.report.roles import Group
from safelm.stats.rates import Rate

WORLD = (
    "harmful",
    "benign",
    "dual_use",
)  # the embedded world's own suites have figures of their own
JUDGES = {
    "demo": "the rule of the embedded world",
    "refusal_phrases": "declining phrases: what does not decline counts as compliance, broken text too",
    "scorer": "a fitted scorer",
    "llm": "a language model",
}


def public_suites(book: Book) -> list[Figure]:
    """One figure for each suite that is not the embedded world's, in the order of their names."""
    return [
        _figure(book, name, row) for name, row in sorted(asked(book).items()) if name not in WORLD
    ]


def asked(book: Book) -> dict[str, Mapping[str, Any]]:
    """What metrics.json says of each suite that some model was asked: kind, judges, rows, what was
    left out.
    """
    found: dict[str, Mapping[str, Any]] = {}
    for stages in book.inputs.metrics.values():
        for metrics in stages.values():
            found |= metrics.get("suites") or {}
    return found


def _figure(book: Book, name: str, row: Mapping[str, Any]) -> Figure:
    judges = "; ".join(f"{judge}, {JUDGES[kind]}" for judge, kind in sorted(row["judges"].items()))
    caption = f"Judged by {judges}. The bars are by {row['judge']}."
    id, title = f"suite-{name.replace('_', '-')}", f"The suite {plain(name)}"
    if row["kind"] == "harmful":
        return _attack(
            book,
            name,
            [judge for judge in row["judges"] if judge != row["judge"]],
            id,
            title,
            caption,
        )
    return over_refusal(
        book, name, id, title, f"{caption} Over-refusal is the last three labels together."
    )


def _attack(book: Book, suite: str, others: list[str], id: str, title: str, caption: str) -> Figure:
    """Attack success of every model, stage and decoder, by every judge, beside what declined and
    what did neither.
    """
    measured, names = book.measured, ("asr", "refused", "neither", "unjudged")

    def rate(group: Group, stage: str, decoder: str, *path: str) -> Rate | None:
        return measured.rate(group, stage, "decoders", decoder, suite, *path)

    cells = [
        (group, stage, decoder)
        for group in measured.built()
        for stage in measured.stages(group)
        for decoder in measured.decoders(book.decoders)
        if rate(group, stage, decoder, "asr")
    ]
    stages = [stage for stage in measured.stages() if any(stage == cell[1] for cell in cells)]
    panels = [
        Panel(
            STAGE_NAMES[stage],
            bars(
                [
                    (
                        group.name,
                        [
                            Bar(
                                plain(decoder),
                                book.style(decoder),
                                rate(group, stage, decoder, "asr"),
                            )
                            for who, at, decoder in cells
                            if (who, at) == (group, stage)
                        ],
                    )
                    for group in dict.fromkeys(cell[0] for cell in cells if cell[1] == stage)
                ],
                f"Bars: attack success on {plain(suite)}, {STAGE_NAMES[stage].lower()}; the numbers are in the table.",
            ),
        )
        for stage in stages
    ]
    rows = [
        [Cell(group.name), Cell(STAGE_NAMES[stage]), Cell(plain(decoder))]
        + [rate_cell(rate(group, stage, decoder, name)) for name in names]
        + [rate_cell(rate(group, stage, decoder, "judges", judge, "asr")) for judge in others]
        for group, stage, decoder in cells
    ]
    head = ["Model", "Stage", "Decoder", "Attack success", "Declined", "Neither", "Unjudged"]
    table = Table(
        title, [*head, *(f"Attack success by {judge}" for judge in others)], rows, heads=3
    )
    legend = book.legend(list(dict.fromkeys(decoder for _, _, decoder in cells)))
    return Figure(id, title, caption, panels, legend, tables=[table])
