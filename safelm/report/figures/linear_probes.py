"""The figure of the linear probes: what the layers of a model say of harm, whether or not it knows
the tag.
"""

from safelm.report.charts.numbers import NONE
from safelm.report.charts.xy import Curve, lines
from safelm.report.figure import STAGE_NAMES, STYLES, Book, Cell, Figure, Panel, Table
from safelm.report.figures.tag_probe import area_cell
from safelm.report.rates import Tree
from safelm.report.roles import Group

Found = dict[tuple[Group, str], Tree]
TOGETHER = 5  # curves in one chart, a style for each


def probes(book: Book) -> Figure | None:
    """The area under the ROC curve of a linear probe of every layer, of every model and stage."""
    found = {
        (group, stage): tree
        for group in book.measured.built()
        for stage in book.measured.stages(group)
        if (tree := book.measured.tree(group, stage, "utility", "probe"))
    }
    if not found:
        return None
    return Figure(
        "probes",
        "What the layers know: linear probes",
        "On the mean hidden state of a page a logistic regression tells harmful from harmless, for every layer; layer "
        "0 are the embeddings. It is fitted on half of the pages and measured on the other half, which is about other "
        "hazards and other acts. “Best” is the layer that was best by cross-validation on the first half. Words alone "
        "are TF-IDF and the same regression, without any model. A model that tells harm here and answers all the same "
        "has the knowledge and does not use it; one that has never read harm may tell it by being unfamiliar.",
        [panel for stage in book.measured.stages() for panel in _panels(found, stage)],
        tables=[_summary(found), _layers(found)],
    )


def _panels(found: Found, stage: str) -> list[Panel]:
    """Charts of a few models each."""
    trees = [(group, tree) for (group, one), tree in found.items() if one == stage]
    title, panels = STAGE_NAMES[stage], []
    for start in range(0, len(trees), TOGETHER):
        chosen = trees[start : start + TOGETHER]
        curves = [
            Curve(
                group.name,
                style,
                [(float(layer), area["value"]) for layer, area in _in_order(tree) if area],
            )
            for (group, tree), style in zip(chosen, STYLES, strict=False)
        ]
        label = f"Curves: how well a probe of each layer tells harmful pages, {title.lower()}; the numbers are below."
        panels.append(
            Panel(title, lines(curves, label, x_title="layer", y_title="area under the ROC curve"))
        )
    return panels


def _in_order(tree: Tree) -> list[tuple[int, Tree | None]]:
    """The layers from the embeddings up; JSON has them in the order of letters."""
    return sorted(
        ((int(layer), area) for layer, area in tree["layers"].items()), key=lambda pair: pair[0]
    )


def _summary(found: Found) -> Table:
    rows = [
        [
            Cell(group.name),
            Cell(STAGE_NAMES[stage]),
            area_cell(tree["words"]),
            area_cell(tree["layers"].get("0")),
            area_cell(tree["best"]["area"]),
            Cell(f"{tree['best']['layer']:.3g}"),
            area_cell(tree["last"]),
        ]
        for (group, stage), tree in found.items()
    ]
    head = ["Model", "Stage", "Words alone", "Embeddings", "Best layer", "which", "Last layer"]
    return Table("Area under the ROC curve of linear probes", head, rows, heads=2)


def _layers(found: Found) -> Table:
    most = max(layer for tree in found.values() for layer, _ in _in_order(tree))
    rows = []
    for (group, stage), tree in found.items():
        areas = dict(_in_order(tree))
        cells = (
            area_cell(areas[layer]) if layer in areas else Cell(NONE) for layer in range(most + 1)
        )
        rows.append([Cell(group.name), Cell(STAGE_NAMES[stage]), *cells])
    head = ["Model", "Stage", *(f"layer {layer}" for layer in range(most + 1))]
    return Table("Linear probes, every layer", head, rows, heads=2)
