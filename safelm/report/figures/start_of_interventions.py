"""Figures of time: when interventions start (paper §12)."""

from safelm.report.charts.numbers import plain
from safelm.report.charts.xy import Series, steps
from safelm.report.figure import STAGE_NAMES, STYLES, Book, Cell, Figure, Panel, Table, rate_cell
from safelm.report.roles import Group


def when_to_start(book: Book) -> Figure | None:
    """Attack success by the share of training that went by before the interventions of the safe
    model were read.
    """
    kinds = schedules(book)
    if not kinds:
        return None
    starts = sorted({start for groups in kinds.values() for start in groups})
    places = [f"{start * 100:.0f} %" for start in starts]
    panels, table = [], []
    for stage, decoder in ((stage, name) for stage in book.measured.stages() for name in book.main):
        rates = {
            kind: [book.measured.asr(groups.get(start), stage, decoder) for start in starts]
            for kind, groups in kinds.items()
        }
        series = [
            Series(kind, style, found)
            for (kind, found), style in zip(rates.items(), STYLES, strict=False)
        ]
        title = f"{STAGE_NAMES[stage]}, {plain(decoder)}"
        label = (
            f"Lines: attack success by start, {title.lower()}; the numbers are in the table below."
        )
        panels.append(
            Panel(title, steps(series, places, label, x_title="start", y_title="attack success, %"))
        )
        table += [
            [Cell(kind), Cell(STAGE_NAMES[stage]), Cell(plain(decoder)), *map(rate_cell, found)]
            for kind, found in rates.items()
        ]
    return Figure(
        "starts",
        "When to start (paper §12)",
        "Attack success of models whose interventions start after so much of training; before that they read score 0 "
        "alone, and at 100 % they never read anything else. Natural schedules that start later also read less of "
        "every intervention; with a matched dose all read the same tokens of what is dosed.",
        panels,
        tables=[
            Table(
                "Attack success rate by start",
                ["Schedule", "Stage", "Decoder", *places],
                table,
                heads=3,
            )
        ],
    )


def schedules(book: Book) -> dict[str, dict[float, Group]]:
    """The models that read what the safe model reads, by the start of it; natural, and of matched
    dose.

    A kind of a single start is no schedule. At 1 stands the filtered model, which never reads an
    intervention."""
    safe, never = book.measured.roles.safe, book.measured.roles.filtered
    found: dict[str, dict[float, Group]] = {"natural": {}, "matched dose": {}}
    for group in sorted(
        book.measured.built(), key=lambda group: group != safe
    ):  # of one start, the safe model itself
        if safe and (group.reads, group.shape) == (safe.reads, safe.shape):
            found["matched dose" if group.is_dosed else "natural"].setdefault(group.start, group)
    return {
        kind: {**rows, **({1.0: never} if never else {})}
        for kind, rows in found.items()
        if len(rows) > 1
    }
