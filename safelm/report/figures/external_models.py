"""The figure of models of others: what the rows of `others` answered to the prompts that ours were
asked.
"""

from collections.abc import Iterator

from safelm.report.charts.bars import Bar, bars
from safelm.report.charts.numbers import NONE, plain
from safelm.report.figure import Book, Cell, Figure, Panel, Table, rate_cell
from safelm.report.rates import Tree, rates

HARMFUL = ("asr", "refused", "neither", "unjudged")
HARMLESS = ("complied", "over_refusal", "unjudged")
Found = dict[tuple[str, str, str], Tree]  # by model, decoder and suite


def others(book: Book) -> Figure | None:
    """Attack success and compliance of every row of `others`, by decoder and suite; None where no
    row stands.
    """
    trees = {name: rates([found], book.confidence) for name, found in book.inputs.others.items()}
    if not trees:
        return None
    kinds = (
        ("asr", HARMFUL, "Attack success", ("Attack success", "Declined", "Neither", "Unjudged")),
        (
            "complied",
            HARMLESS,
            "Harmless requests answered",
            ("Complied and helpful", "Over-refusal", "Unjudged"),
        ),
    )
    panels, tables = [], []
    for rate, names, title, head in kinds:
        found = {cell: tree for cell, tree in _cells(trees) if rate in tree}
        if found:
            panels.append(_panel(book, title, rate, found))
            tables.append(
                Table(title, ["Model", "Decoder", "Suite", *head], _rows(found, names), heads=3)
            )
    tables += _utility(trees)
    told = " ".join(f"{name}: {_asked(found)}." for name, found in book.inputs.others.items())
    return Figure(
        "others",
        "Models of others",
        "The rows of others in params.yaml, asked the same prompts with the same decoders and judges as the models of "
        f"this build. They read other data and are of other sizes: no claim of this page rests on them. {told}",
        panels,
        book.legend(list(dict.fromkeys(decoder for _, decoder, _ in dict(_cells(trees))))),
        tables=tables,
    )


def _asked(found: Tree) -> str:
    how = "asked in its chat format" if found["stage"] == "instruct" else "continues the prompts"
    return f"{how}, {'knows the tag' if found['knows_tag'] else 'knows no tag'}"


def _cells(trees: dict[str, Tree]) -> Iterator[tuple[tuple[str, str, str], Tree]]:
    for name, tree in trees.items():
        for decoder, suites in tree["decoders"].items():
            for suite, found in suites.items():
                yield (name, decoder, suite), found


def _panel(book: Book, title: str, rate: str, found: Found) -> Panel:
    groups = [
        (
            f"{name}, {plain(suite)}",
            [
                Bar(plain(decoder), book.style(decoder), tree[rate])
                for (who, decoder, asked), tree in found.items()
                if (who, asked) == (name, suite)
            ],
        )
        for name, suite in dict.fromkeys((name, suite) for name, _, suite in found)
    ]
    return Panel(
        title,
        bars(
            groups, f"Bars: {title.lower()}, models of others; the numbers are in the table below."
        ),
    )


def _rows(found: Found, names: tuple[str, ...]) -> list[list[Cell]]:
    return [
        [
            Cell(name),
            Cell(plain(decoder)),
            Cell(plain(suite)),
            *(rate_cell(tree.get(one)) for one in names),
        ]
        for (name, decoder, suite), tree in found.items()
    ]


def _utility(trees: dict[str, Tree]) -> list[Table]:
    """Multiple choice and the tasks of lm-evaluation-harness, where they were measured."""
    rows = []
    for name, tree in trees.items():
        found = tree.get("utility") or {}
        if "accuracy" in found:
            words = Cell(
                NONE if found.get("perplexity") is None else f"{found['perplexity']:.2f} perplexity"
            )
            rows.append([Cell(name), Cell("multiple choice"), rate_cell(found["accuracy"]), words])
        rows += [
            [Cell(name), Cell(plain(task)), rate_cell(value), Cell(plain(measure))]
            for task, measures in found.get("tasks", {}).items()
            for measure, value in measures.items()
        ]
    return [Table("Utility", ["Model", "Task", "Rate", "Measure"], rows, heads=2)] if rows else []
