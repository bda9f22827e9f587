"""The figure of p(tag) as a signal: how early it tells a harmful page, and what its values mean."""

from collections.abc import Iterable

from safelm.report.charts.numbers import NONE
from safelm.report.charts.xy import Curve, lines
from safelm.report.figure import STAGE_NAMES, STYLES, Book, Cell, Figure, Panel, Table, rate_cell
from safelm.report.rates import Tree
from safelm.report.roles import Group

PAGE = "page"


def tag_signal(book: Book) -> Figure | None:
    """The area under the ROC curve of p(tag), by the words read, of every model that knows the tag."""
    found = {
        (group, stage): tree
        for group in book.measured.built()
        for stage in book.measured.stages(group)
        if (tree := book.measured.tree(group, stage, "utility", "tag"))
    }
    if not found:
        return None
    panels = []
    for group in dict.fromkeys(group for group, _ in found):
        stages = [stage for one, stage in found if one == group]
        curves = [
            Curve(stage, STYLES[place % len(STYLES)], _points(found[group, stage]))
            for place, stage in enumerate(stages)
        ]
        label = f"Curves: how well p(tag) tells harmful pages, by words read, for {group.name}; the numbers are below."
        panels.append(
            Panel(
                group.name,
                lines(curves, label, x_title="words read", y_title="area under the ROC curve"),
            )
        )
    return Figure(
        "tag-signal",
        "What p(tag) knows, and when",
        "Harmful and harmless pages in the same forms, about acts that no model read of. The area is the chance that "
        "p(tag) after so many words is higher on a harmful page; 0.5 is chance. A decoder that decides at the first "
        "words decides before the tag can tell. If p(tag) is the rate of tagging times the chance that a page is "
        "unsafe, the share of readings on harmful pages grows with it; half of these pages are harmful, far more than "
        "in training.",
        panels,
        tables=[_areas(found), _bins(found)],
    )


def _points(tree: Tree) -> list[tuple[float, float]]:
    areas = ((words, tree["auroc"][words]) for words in _in_order(tree["auroc"]) if words != PAGE)
    return [(float(words), area["value"]) for words, area in areas if area is not None]


def _in_order(names: Iterable[str]) -> list[str]:
    """Numbers of words from the fewest up, then the whole page; JSON has them in the order of
    letters.
    """
    return sorted(set(names), key=lambda name: (name == PAGE, 0 if name == PAGE else int(name)))


def _areas(found: dict[tuple[Group, str], Tree]) -> Table:
    words = _in_order(name for tree in found.values() for name in tree["auroc"])
    head = [
        "Model",
        "Stage",
        *(f"after {name}" if name != PAGE else "Mean of the page" for name in words),
    ]
    rows = [
        [
            Cell(group.name),
            Cell(STAGE_NAMES[stage]),
            *(area_cell(tree["auroc"].get(name)) for name in words),
        ]
        for (group, stage), tree in found.items()
    ]
    return Table("Area under the ROC curve of p(tag), by the words read", head, rows, heads=2)


def area_cell(area: Tree | None) -> Cell:
    """An area with its interval."""
    return (
        Cell(f"{area['value']:.3f}", f"[{area['low']:.3f}, {area['high']:.3f}]")
        if area
        else Cell(NONE)
    )


def _bins(found: dict[tuple[Group, str], Tree]) -> Table:
    rows = [
        [
            Cell(group.name),
            Cell(STAGE_NAMES[stage]),
            Cell(f"up to {edge}"),
            Cell(f"{one['mean']:.4f}"),
            rate_cell(one["unsafe"]),
        ]
        for (group, stage), tree in found.items()
        for edge, one in sorted(tree["bins"].items(), key=lambda item: float(item[0]))
    ]
    head = ["Model", "Stage", "p(tag)", "Mean", "On harmful pages"]
    return Table("Calibration: readings of p(tag) before every word", head, rows, heads=3)
