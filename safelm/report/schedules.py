"""Figures of time: when interventions start (paper §12), and how fast benign finetuning undoes what they did."""

from collections.abc import Iterator, Mapping, Sequence

from safelm.report.figure import STAGE_NAMES, STYLES, Book, Cell, Figure, Panel, Table, rate_cell
from safelm.report.format import plain
from safelm.report.planes import Series, steps
from safelm.report.roles import Group
from safelm.statistics import Rate

TOGETHER = 5  # lines in one chart, a style for each
END = "all"
RATES = {"harmful": ("asr", "Attack success"), "benign": ("complied", "Benign compliance")}


def relearning(book: Book) -> Figure | None:
    """Attack success and benign compliance after more and more of benign finetuning."""
    doses = book.measured.doses
    groups = [group for group in book.measured.built() if group.name in doses]
    if not groups:
        return None
    pairs = sorted({dose for group in groups for dose in doses[group.name]})
    asked = {name for tree in doses.values() for found in tree.values() for name in found["decoders"]}
    places, rows = ["0", *map(str, pairs), END], []
    panels: list[Panel] = []
    for decoder in (name for name in book.decoders if name in asked):
        for suite, (name, title) in RATES.items():
            found = {group: _along(book, group, decoder, pairs, suite, name) for group in groups}
            panels += _panels(found, f"{title}, {plain(decoder)}", places)
            rows += [[Cell(group.name), Cell(plain(decoder)), Cell(title), *map(rate_cell, rates)]
                     for group, rates in found.items()]  # fmt: skip
    return Figure(
        "relearning",
        "How fast benign finetuning undoes safety",
        "Attack success after more and more pairs of one run of benign finetuning: 0 is the instruction-tuned model, "
        f"“{END}” the end of the run. Read it beside benign compliance: a model that answers nobody has no attack "
        "success. The learning rate falls along the run, so a shorter run would not end at the same place.",
        panels,
        tables=[Table("Along benign finetuning", ["Model", "Decoder", "Rate", *places], rows, heads=3)],
    )


def _panels(found: Mapping[Group, Sequence[Rate | None]], title: str, places: Sequence[str]) -> Iterator[Panel]:
    """Charts of a few models each."""
    for start in range(0, len(found), TOGETHER):
        chosen = list(found)[start : start + TOGETHER]
        series = [Series(group.name, style, found[group]) for group, style in zip(chosen, STYLES, strict=False)]
        label = f"Lines: {title.lower()} along benign finetuning; the numbers are in the table below."
        yield Panel(title, steps(series, places, label, x_title="pairs of benign finetuning", y_title="%"))


def _along(book: Book, group: Group, decoder: str, pairs: Sequence[int], suite: str, name: str) -> list[Rate | None]:
    """A rate at every place: after instruction tuning, along finetuning, and at its end."""
    measured, path = book.measured, ("decoders", decoder, suite, name)
    between = [measured.along(group, decoder, dose, suite, name) for dose in pairs]
    return [measured.rate(group, "instruct", *path), *between, measured.rate(group, "finetune", *path)]


def when_to_start(book: Book) -> Figure | None:
    """Attack success by the share of training that went by before the interventions of the safe model were read."""
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
        series = [Series(kind, style, found) for (kind, found), style in zip(rates.items(), STYLES, strict=False)]
        title = f"{STAGE_NAMES[stage]}, {plain(decoder)}"
        label = f"Lines: attack success by start, {title.lower()}; the numbers are in the table below."
        panels.append(Panel(title, steps(series, places, label, x_title="start", y_title="attack success, %")))
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
        tables=[Table("Attack success rate by start", ["Schedule", "Stage", "Decoder", *places], table, heads=3)],
    )


def schedules(book: Book) -> dict[str, dict[float, Group]]:
    """The models that read what the safe model reads, by the start of it; natural, and of matched dose.

    A kind of a single start is no schedule. At 1 stands the filtered model, which never reads an intervention.
    """
    safe, never = book.measured.roles.safe, book.measured.roles.filtered
    found: dict[str, dict[float, Group]] = {"natural": {}, "matched dose": {}}
    for group in book.measured.built() if safe else []:
        if safe and (group.reads, group.shape) == (safe.reads, safe.shape):
            found["matched dose" if group.is_dosed else "natural"].setdefault(group.start, group)
    return {kind: {**rows, **({1.0: never} if never else {})} for kind, rows in found.items() if len(rows) > 1}
