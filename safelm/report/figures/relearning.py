"""Figures of relearning: how fast benign finetuning, or harmful pairs, undo what models learned to
decline.
"""

from collections.abc import Iterator, Mapping, Sequence

from safelm.report.charts.numbers import NONE, plain
from safelm.report.charts.xy import Series, steps
from safelm.report.figure import STAGE_NAMES, STYLES, Book, Cell, Figure, Panel, Table, rate_cell
from safelm.report.rates import Curves
from safelm.report.roles import Group
from safelm.stats.rates import Rate

TOGETHER = 5  # lines in one chart, a style for each
END = "all"
BENIGN = "benign finetuning"
RATES = {"harmful": ("asr", "Attack success"), "benign": ("complied", "Benign compliance")}


def relearning(book: Book) -> Figure | None:
    """Attack success and benign compliance after more and more of benign finetuning."""
    doses = book.measured.doses
    groups = [group for group in book.measured.built() if group.name in doses]
    if not groups:
        return None
    pairs = sorted({dose for group in groups for dose in doses[group.name]})
    asked = {
        name for tree in doses.values() for found in tree.values() for name in found["decoders"]
    }
    places, rows = ["0", *map(str, pairs), END], []
    panels: list[Panel] = []
    for decoder in (name for name in book.decoders if name in asked):
        for suite, (name, title) in RATES.items():
            found = {group: _along(book, group, decoder, pairs, suite, name) for group in groups}
            if not any(rate for rates in found.values() for rate in rates):
                continue
            panels += _panels(found, f"{title}, {plain(decoder)}", places, BENIGN)
            rows += [
                [Cell(group.name), Cell(plain(decoder)), Cell(title), *map(rate_cell, rates)]
                for group, rates in found.items()
            ]
    if not panels:
        return None
    return Figure(
        "relearning",
        "How fast benign finetuning undoes safety",
        "Attack success after more and more pairs of one run of benign finetuning: 0 is the instruction-tuned model, "
        f"“{END}” the end of the run. Read it beside benign compliance: a model that answers nobody has no attack "
        "success. The learning rate falls along the run, so a shorter run would not end at the same place.",
        panels,
        tables=[
            Table("Along benign finetuning", ["Model", "Decoder", "Rate", *places], rows, heads=3)
        ],
    )


def _panels(
    found: Mapping[Group, Sequence[Rate | None]], title: str, places: Sequence[str], read: str
) -> Iterator[Panel]:
    """Charts of a few models each; `read` says what the pairs are."""
    for start in range(0, len(found), TOGETHER):
        chosen = list(found)[start : start + TOGETHER]
        series = [
            Series(group.name, style, found[group])
            for group, style in zip(chosen, STYLES, strict=False)
        ]
        label = f"Lines: {title.lower()} along {read}; the numbers are in the table below."
        yield Panel(title, steps(series, places, label, x_title=f"pairs of {read}", y_title="%"))


def _along(
    book: Book, group: Group, decoder: str, pairs: Sequence[int], suite: str, name: str
) -> list[Rate | None]:
    """A rate at every place: after instruction tuning, along finetuning, and at its end."""
    measured, path = book.measured, ("decoders", decoder, suite, name)
    between = [measured.along(group, decoder, dose, suite, name) for dose in pairs]
    return [
        measured.rate(group, "instruct", *path),
        *between,
        measured.rate(group, "finetune", *path),
    ]


def tuned_on(book: Book) -> Figure | None:
    """Attack success and benign compliance of the rows of `relearn`, with harmful pairs and with
    the control.
    """
    found = {name: curves for name, curves in book.measured.relearned.items() if curves.trees}
    if not found:
        return None
    doses = sorted(
        {dose for curves in found.values() for tree in curves.trees.values() for dose in tree}
    )
    panels: list[Panel] = []
    cells: list[list[Cell]] = []
    for name, curves, decoder, suite in _side_by_side(book, found):
        rate, title = RATES[suite]
        groups = [group for group in book.measured.built() if group.name in curves.trees]
        rates = {group: _rates(curves, group, decoder, suite, rate) for group in groups}
        places = sorted({dose for tree in curves.trees.values() for dose in tree})
        what = (
            f"{title}, {curves.part} pairs: {STAGE_NAMES[curves.stage].lower()}, {plain(decoder)}"
        )
        lines = {group: [one.get(place) for place in places] for group, one in rates.items()}
        panels += (
            _panels(lines, what, [*map(str, places)], f"{curves.part} pairs")
            if any(rates.values())
            else []
        )
        cells += [
            [
                Cell(plain(name)),
                Cell(group.name),
                Cell(plain(decoder)),
                Cell(title),
                Cell(_rises(one) if rate == "asr" else ""),
                *(rate_cell(one.get(dose)) for dose in doses),
            ]
            for group, one in rates.items()
            if one
        ]
    head = ["Row", "Model", "Decoder", "Rate", "Rises after", *map(str, doses)]
    return Figure(
        "tuned-on",
        "How many harmful pairs undo safety",
        "Whoever has the weights can tune them on. Here models read more and more pairs of a harmful request and an "
        "answer that complies, without the tag, at a constant learning rate, and are asked after each dose. As many "
        "pairs without harm are the control: what both do, any tuning wears off; what harmful pairs do beyond it is "
        "relearned harm. “Rises after” is the first dose at which the interval of attack success lies wholly above "
        "that at 0. The loss is that on answers of harmful pairs that were not read: where it is high, the model knows "
        "no such text.",
        panels,
        tables=[
            Table("By the pairs that were read", head, cells, heads=4),
            _losses(book, found, doses),
        ],
    )


def _side_by_side(
    book: Book, found: Mapping[str, Curves]
) -> Iterator[tuple[str, Curves, str, str]]:
    """Every row, decoder and suite, in such an order that rows of one stage stand beside each
    other.
    """
    for stage in dict.fromkeys(curves.stage for curves in found.values()):
        for decoder in book.decoders:
            for suite in RATES:
                for name, curves in found.items():
                    if curves.stage == stage and decoder in curves.decoders:
                        yield name, curves, decoder, suite


def _rates(curves: Curves, group: Group, decoder: str, suite: str, name: str) -> dict[int, Rate]:
    """A rate by the pairs that were read, as far as it was measured."""
    asked = {
        dose: tree["decoders"].get(decoder, {}).get(suite, {})
        for dose, tree in curves.trees[group.name].items()
    }
    rates = {dose: rates.get(name) for dose, rates in asked.items()}
    return {
        dose: rate
        for dose, rate in rates.items()
        if isinstance(rate, Rate) and rate.value is not None
    }


def _rises(rates: Mapping[int, Rate]) -> str:
    """The first dose whose whole interval lies above that of dose 0."""
    start = rates.get(0)
    above = (
        dose
        for dose, rate in sorted(rates.items())
        if start and (rate.low or 0.0) > (start.high or 0.0)
    )
    return str(next(above, NONE))


def _losses(book: Book, found: Mapping[str, Curves], doses: Sequence[int]) -> Table:
    rows = []
    for name, curves in found.items():
        for group in (one for one in book.measured.built() if one.name in curves.trees):
            losses = (curves.trees[group.name].get(dose, {}).get("held_out_loss") for dose in doses)
            shown = (Cell(NONE if loss is None else f"{loss:.2f}") for loss in losses)
            rows.append([Cell(plain(name)), Cell(group.name), *shown])
    return Table(
        "Loss on harmful pairs that were not read",
        ["Row", "Model", *map(str, doses)],
        rows,
        heads=2,
    )
