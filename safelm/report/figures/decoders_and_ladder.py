"""Figures of what makes the difference: decoders and their control, the ladder of interventions
(Figure 4), utility.
"""

from safelm.report.charts.bars import Bar, bars
from safelm.report.charts.numbers import NONE, plain
from safelm.report.charts.xy import Point, beats, scatter
from safelm.report.figure import STAGE_NAMES, Book, Cell, Figure, Panel, Table, rate_cell
from safelm.report.roles import RUNGS


def decoder_controls(book: Book) -> Figure:
    """Attack success against benign compliance, decoder by decoder: what a decoder gains and what
    it costs.
    """
    measured, panels, rows = book.measured, [], []
    order = measured.decoders(book.decoders)
    for group in [group for group in measured.built() if group.has_tags] or measured.built()[:1]:
        for stage in measured.stages(group):
            points = {
                decoder: Point(plain(decoder), book.style(decoder), asr, complied)
                for decoder in order
                if (asr := measured.asr(group, stage, decoder))
                and (complied := measured.complied(group, stage, decoder))
            }
            for decoder, point in points.items():
                neither = measured.rate(group, stage, "decoders", decoder, "harmful", "neither")
                shown = (point.x, point.y, measured.over_refusal(group, stage, decoder), neither)
                better = ", ".join(other.label for other in points.values() if beats(other, point))
                names = (group.name, STAGE_NAMES[stage], plain(decoder))
                rows.append([*map(Cell, names), *map(rate_cell, shown), Cell(better or NONE)])
            label = f"Points: attack success and benign compliance of {group.name}, {STAGE_NAMES[stage].lower()}."
            drawn = scatter(
                [*points.values()],
                label,
                x_title="attack success, %",
                y_title="benign compliance, %",
            )
            panels.append(Panel(f"{group.name}: {STAGE_NAMES[stage].lower()}", drawn))
    head = [
        "Model",
        "Stage",
        "Decoder",
        "Attack success",
        "Benign compliance",
        "Over-refusal",
        "Neither",
        "Beaten by",
    ]
    return Figure(
        "decoders",
        "The frontier: what a decoder gains and what it costs",
        "Each point is a way of decoding the same model. Up and to the left is better: harmless requests "
        "answered, harmful ones not; the line joins the decoders that no other beats in both. The control drops a "
        "random half of the candidates whatever the tag says; only what SafeBeam gains beyond it is the tag's doing. "
        "A point that moves left and down also lost helpful answers, to refusals or to broken text. Ours writes whole "
        "answers that begin differently and gives the one that is likely and little tagged; its weight and bound "
        "were chosen on models of the seeds 2 and 3, once more after those of the seeds 1, 4 and 5 had been seen.",
        panels,
        [(f"mark {style}", meaning) for style, meaning in book.legend(order)],
        tables=[Table("Decoders", head, rows, heads=3)],
    )


def ladder(book: Book) -> Figure:
    """Figure 4: attack success as one intervention is added to another; the rungs that were built."""
    measured, plain_, beam = book.measured, book.parts.plain, book.parts.safebeam
    panels: list[Panel] = []
    cells: dict[tuple[str, str], dict[str, Cell]] = {}
    stages = [
        stage for stage in ("pretrain", book.paper.ladder.stage) if stage in measured.stages()
    ]
    for stage in stages:
        rows = []
        for group in measured.roles.ladder:
            rung = group.rung or ""
            paper = (
                book.paper.ladder.rungs[rung] / 100
                if stage == book.paper.ladder.stage and rung != "tags"
                else None
            )
            steps = [(RUNGS[rung], plain_, paper)]
            if rung == "tags" and beam:
                last = (
                    book.paper.ladder.rungs[rung] / 100
                    if stage == book.paper.ladder.stage
                    else None
                )
                steps.append(("+ SafeBeam", beam, last))
            for name, decoder, value in steps:
                asr = measured.asr(group, stage, decoder)
                rows.append(Bar(name, book.style(decoder), asr, value))
                cells.setdefault((name, group.name), {})[stage] = rate_cell(asr, value)
        label = f"Bars: attack success by rung of the ladder, {STAGE_NAMES[stage].lower()}; the numbers are in the table."
        panels.append(Panel(STAGE_NAMES[stage], bars([("", rows)], label, gutter=136.0)))
    missing = [
        text
        for rung, text in RUNGS.items()
        if rung not in [group.rung for group in measured.roles.ladder]
    ]
    unbuilt = (
        f" Not built here: {'; '.join(missing)}. A rung is a row of mixtures and models."
        if missing
        else ""
    )
    return Figure(
        "figure-4",
        "The ladder of interventions (Figure 4 of the paper)",
        "Attack success as one intervention is added to another." + unbuilt,
        panels,
        book.legend([name for name in book.main if name in measured.decoders(book.main)]),
        "the paper",
        [
            Table(
                "Attack success rate by rung",
                ["Rung", "Model", *(STAGE_NAMES[stage] for stage in stages)],
                [
                    [Cell(name), Cell(model), *(found.get(stage, Cell(NONE)) for stage in stages)]
                    for (name, model), found in cells.items()
                ],
                heads=2,
            )
        ],
    )


def utility(book: Book) -> Figure:
    """Accuracy and perplexity of every model and stage."""
    measured = book.measured
    panels = [
        Panel(
            STAGE_NAMES[stage],
            bars(
                [
                    (
                        "",
                        [
                            Bar(group.name, "s1", measured.accuracy(group, stage))
                            for group in measured.built()
                        ],
                    )
                ],
                f"Bars: accuracy {STAGE_NAMES[stage].lower()}; the numbers are in the table below.",
            ),
        )
        for stage in measured.stages()
    ]
    rows = []
    for group in measured.built():
        cells = []
        for stage in measured.stages():
            perplexity = measured.tree(group, stage, "utility").get("perplexity")
            cells += [
                rate_cell(measured.accuracy(group, stage)),
                Cell(NONE if perplexity is None else f"{perplexity:.2f}"),
            ]
        paper = book.paper.utility.rungs.get("moral" if group.rung == "tags" else group.rung or "")
        rows.append([Cell(group.name), *cells, Cell(NONE if paper is None else f"{paper:.1f}")])
    head = ["Model"]
    for stage in measured.stages():
        head += [STAGE_NAMES[stage], "perplexity"]
    return Figure(
        "utility",
        "Multiple choice",
        "Accuracy on multiple-choice questions. The paper's column is its mean over nine public tasks, for its "
        "base models: another scale, shown for the order of the models.",
        panels,
        tables=[
            Table("Accuracy and perplexity", [*head, "Paper, mean of nine tasks"], rows),
            *_tasks(book),
        ],
    )


def _tasks(book: Book) -> list[Table]:
    """The tasks of lm-evaluation-harness that were asked: a table with a column for each task and
    measure.
    """
    measured = book.measured
    cells = {
        (group, stage): {
            f"{task}, {measure}": rate
            for task, found in measured.tree(group, stage, "utility", "tasks").items()
            for measure, rate in found.items()
        }
        for group in measured.built()
        for stage in measured.stages(group)
    }
    columns = sorted({name for found in cells.values() for name in found})
    rows = [
        [
            Cell(group.name),
            Cell(STAGE_NAMES[stage]),
            *(rate_cell(found.get(name)) for name in columns),
        ]
        for (group, stage), found in cells.items()
        if found
    ]
    head = ["Model", "Stage", *(plain(name) for name in columns)]
    return [Table("Tasks of lm-evaluation-harness", head, rows, heads=2)] if rows else []
