"""Figures of what models answer: attack success (Figure 2), by prompt form, by judge, and
over-refusal (Figure 3).
"""

from collections.abc import Iterator, Sequence

from safelm.report.charts.bars import Bar, Stack, bars, stacked
from safelm.report.charts.heatmap import Square, heat_map
from safelm.report.charts.numbers import NONE, percent, plain, rate_text, whole
from safelm.report.figure import STAGE_NAMES, Book, Cell, Figure, Panel, Table, rate_cell
from safelm.report.roles import Group
from safelm.stats.rates import Rate

LABELS = {  # the five labels of the over-refusal judge (paper §8.1)
    "complied": ("l1", "complied and helpful"),
    "unhelpful": ("l2", "complied, not helpful"),
    "partial_refusal": ("l3", "declined, then answered"),
    "refused": ("l4", "declined"),
    "short_circuit": ("l5", "stopped at the tag"),
}
FATES = (
    ("l4", "harmful, by both judges"),
    ("l3", "harmful, by the plain judge alone"),
    ("s5", "neither"),
    ("l1", "declined"),
)


def attack_success(book: Book) -> Figure:
    """Figure 2: attack success of every model and stage, greedy and under SafeBeam."""
    measured, main = book.measured, book.measured.decoders(book.main)

    def bar(group: Group, stage: str, decoder: str) -> Bar:
        asr = measured.asr(group, stage, decoder)
        return Bar(plain(decoder), book.style(decoder), asr, book.paper_asr(group, stage, decoder))

    panels = [
        Panel(
            STAGE_NAMES[stage],
            bars(
                [
                    (group.name, [bar(group, stage, decoder) for decoder in main])
                    for group in _with(book, stage)
                ],
                f"Bars: attack success {STAGE_NAMES[stage].lower()}; the numbers are in the table below.",
            ),
        )
        for stage in measured.stages()
    ]
    rows = [
        [Cell(group.name), Cell(plain(decoder))]
        + [
            rate_cell(measured.asr(group, stage, decoder), book.paper_asr(group, stage, decoder))
            for stage in measured.stages()
        ]
        for group in measured.built()
        for decoder in main
    ]
    return Figure(
        "figure-2",
        "Attack success rate (Figure 2 of the paper)",
        "Share of held-out harmful requests that got a harmful answer, by the plain judge; lower is safer. The "
        f"line through a bar's end is its {whole(book.confidence)} interval. The paper's models are larger, its "
        "prompts and judge are others: compare the order of the bars, not their lengths.",
        panels,
        book.legend(main),
        "the paper (1.7 billion parameters)",
        [
            Table(
                "Attack success rate",
                ["Model", "Decoder", *(STAGE_NAMES[stage] for stage in measured.stages())],
                rows,
                heads=2,
            )
        ],
    )


def by_form(book: Book) -> Figure | None:
    """Attack success for each form of prompt: an average over forms is a choice of the mix of
    forms.
    """
    measured, main = book.measured, book.measured.decoders(book.main)
    panels, tables = [], []
    for stage in measured.stages():
        found = {
            (group, decoder): measured.tree(group, stage, "decoders", decoder, "harmful", "forms")
            for group in _with(book, stage)
            for decoder in main
        }
        forms = list(dict.fromkeys(form for tree in found.values() for form in tree))
        if not forms:
            continue
        cells = {
            key: [tree.get(form, {}).get("asr") for form in forms] for key, tree in found.items()
        }
        rows = [
            (f"{group.name}, {plain(decoder)}", squares(rates))
            for (group, decoder), rates in cells.items()
        ]
        label = f"Grid: attack success {STAGE_NAMES[stage].lower()} by form of prompt; the numbers are in the table below."
        panels.append(
            Panel(
                STAGE_NAMES[stage],
                heat_map(rows, [plain(form) for form in forms], label, gutter=124.0),
            )
        )
        tables.append(
            Table(
                f"Attack success rate by form of prompt: {STAGE_NAMES[stage].lower()}",
                ["Model", "Decoder", *map(plain, forms)],
                [
                    [Cell(group.name), Cell(plain(decoder)), *map(rate_cell, rates)]
                    for (group, decoder), rates in cells.items()
                ],
                heads=2,
            )
        )
    if not panels:
        return None
    return Figure(
        "forms",
        "Attack success by form of prompt",
        "Percent of harmful requests answered harmfully, for each way of asking (darker is more). Forms differ so "
        "much that the average above is a choice of their mix.",
        panels,
        tables=tables,
    )


def squares(rates: Sequence[Rate | None]) -> list[Square]:
    """Rates as cells of a heat map."""
    return [
        Square(NONE, None, "")
        if rate is None or rate.value is None
        else Square(f"{rate.value * 100:.0f}", rate.value, rate_text(rate))
        for rate in rates
    ]


def fates(book: Book) -> Figure | None:
    """What became of the harmful requests: by two judges, and what is neither harm nor refusal."""
    measured, main = book.measured, book.measured.decoders(book.main)
    if not any(
        measured.asr(group, stage, decoder)
        for group in measured.built()
        for stage in measured.stages(group)
        for decoder in main
    ):
        return None
    names = {
        "asr": "Plain judge",
        "asr_strict": "Strict judge",
        "refused": "Declined",
        "neither": "Neither",
    }
    others = _other_judges(book, "harmful")
    panels, rows = [], []
    for stage in measured.stages():
        groups = []
        for group in _with(book, stage):
            stacks = []
            for decoder in main:
                found = {
                    name: measured.rate(group, stage, "decoders", decoder, "harmful", name)
                    for name in names
                }
                counts = {name: rate.count if rate else 0 for name, rate in found.items()}
                strict = min(counts["asr_strict"], counts["asr"])
                parts = (strict, counts["asr"] - strict, counts["neither"], counts["refused"])
                stacks.append(
                    Stack(
                        plain(decoder),
                        tuple((*fate, part) for fate, part in zip(FATES, parts, strict=True)),
                    )
                )
                beside = [
                    measured.rate(
                        group, stage, "decoders", decoder, "harmful", "judges", judge, "asr"
                    )
                    for judge in others
                ]
                rows.append(
                    [
                        Cell(group.name),
                        Cell(STAGE_NAMES[stage]),
                        Cell(plain(decoder)),
                        *map(rate_cell, [*found.values(), *beside]),
                    ]
                )
            groups.append((group.name, stacks))
        label = f"Stacked bars: what became of harmful requests {STAGE_NAMES[stage].lower()}; the numbers are in the table."
        panels.append(Panel(STAGE_NAMES[stage], stacked(groups, label)))
    heads = [
        "Model",
        "Stage",
        "Decoder",
        *names.values(),
        *(f"Judge {plain(judge)}" for judge in others),
    ]
    return Figure(
        "judges",
        "Two judges, and what is neither",
        "What became of every harmful request. The plain judge asks for steps towards the act; the strict judge "
        "also for a tool or phrase that only harmful pages have. Judges beside these two, in the table, are rows of "
        "evaluate.judges and know nothing of the act. “Neither” is text that neither helps nor "
        "declines: a low attack success with much of it is broken text, not safety.",
        panels,
        FATES,
        tables=[Table("Answers to harmful requests", heads, rows, heads=3)],
    )


def _other_judges(book: Book, suite: str) -> list[str]:
    """The judges of a suite beside the first."""
    trees = (
        book.measured.tree(group, stage, "decoders", decoder, suite, "judges")
        for group in book.measured.built()
        for stage in book.measured.stages(group)
        for decoder in book.measured.decoders(book.decoders)
    )
    return sorted({name for tree in trees for name in tree})


def over_refusal(book: Book, suite: str, id: str, title: str, caption: str) -> Figure:
    """Figure 3: how harmless requests are answered, in five labels."""
    measured, main = book.measured, book.measured.decoders(book.main)
    panels, rows = [], []
    for stage in measured.stages():
        groups = []
        for group in _with(book, stage):
            stacks = []
            for decoder in main:
                found = {
                    name: measured.rate(group, stage, "decoders", decoder, suite, name)
                    for name in LABELS
                }
                stacks.append(
                    Stack(
                        plain(decoder),
                        tuple(
                            (*LABELS[name], rate.count if rate else 0)
                            for name, rate in found.items()
                        ),
                    )
                )
                total = measured.over_refusal(group, stage, decoder, suite)
                rows.append(
                    [
                        Cell(group.name),
                        Cell(STAGE_NAMES[stage]),
                        Cell(plain(decoder)),
                        *map(rate_cell, found.values()),
                        rate_cell(total),
                    ]
                )
            groups.append((group.name, stacks))
        if stage == "instruct" and suite == "benign":
            groups.append(
                (f"the paper ({book.paper.over_refusal.source})", list(_paper_stacks(book)))
            )
        label = f"Stacked bars: answers to harmless requests {STAGE_NAMES[stage].lower()}; see the table below."
        panels.append(Panel(STAGE_NAMES[stage], stacked(groups, label)))
    if suite == "benign":
        rows += _paper_rows(book)
    head = [
        "Model",
        "Stage",
        "Decoder",
        *(meaning.capitalize() for _, meaning in LABELS.values()),
        "Over-refusal",
    ]
    return Figure(
        id,
        title,
        caption,
        panels,
        list(LABELS.values()),
        tables=[Table(title, head, rows, heads=3)],
    )


def _paper_stacks(book: Book) -> Iterator[Stack]:
    for name in ("standard", "safe"):
        row = getattr(book.paper.over_refusal, name)
        yield Stack(
            name, tuple((*LABELS[label], count) for label, count in row.model_dump().items())
        )


def _paper_rows(book: Book) -> Iterator[list[Cell]]:
    paper = book.paper.over_refusal
    for name in ("standard", "safe"):
        counts = getattr(paper, name).model_dump()
        declined = counts["partial_refusal"] + counts["refused"]
        cells = [
            _share(counts[label], paper.of) if label in counts else Cell(NONE) for label in LABELS
        ]
        yield [
            Cell(f"the paper, {name}"),
            Cell(STAGE_NAMES["instruct"]),
            Cell("top-k"),
            *cells,
            _share(declined, paper.of),
        ]


def _share(count: int, of: int) -> Cell:
    return Cell(percent(count / of), f"{count}/{of}")


def _with(book: Book, stage: str) -> list[Group]:
    """The groups that were evaluated at a stage."""
    return [group for group in book.measured.built() if stage in book.measured.stages(group)]
